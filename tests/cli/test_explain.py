from __future__ import annotations

import argparse

import pytest

from sidecar.cli import explain
from sidecar.config.codes import CODES
from sidecar.config.reference import codes_page, documents_page


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    explain.add_arguments(parser)
    return explain.run(parser.parse_args(arguments))


@pytest.mark.parametrize("code", ["SC0204", "sc0204"])
def test_a_code_is_explained(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(code) == 0
    assert capsys.readouterr().out.startswith("SC0204: unknown field\n")


def test_a_kind_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("ServiceEntry") == 0
    assert "spec.endpoints[].address" in capsys.readouterr().out


def test_without_a_topic_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    out = capsys.readouterr().out
    assert all(code in out for code in CODES)


@pytest.mark.parametrize(
    ("topic", "advice"),
    [("AuthorisationPolicy", "did you mean `AuthorizationPolicy`?"), ("zebra", "lists all")],
)
def test_an_unknown_topic_is_told_which_was_meant(
    topic: str, advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(topic) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert advice in err


def test_whole_pages_can_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--page", "documents") == 0
    assert capsys.readouterr().out == documents_page()
    assert run("--page", "error-codes") == 0
    assert capsys.readouterr().out == codes_page()
