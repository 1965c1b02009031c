"""The threat model claims nothing that no test holds: each claim names tests, and they exist."""

from __future__ import annotations

import ast
import re

import pytest
from support.pages import ROOT, Page

PAGE = Page(ROOT / "docs" / "explanation" / "threat-model.md")
CLAIMS = [
    line
    for section in re.split(r"^## ", PAGE.text, flags=re.MULTILINE)
    if "as is held by" in section
    for line in section.splitlines()
    if line.startswith("|") and "as is held by" not in line and not line.startswith("|---")
]
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", PAGE.text)))


def test_there_are_claims_at_every_border() -> None:
    assert PAGE.text.count("as is held by") == 6
    assert len(CLAIMS) > 50


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.split("|")[1].strip()[:40])
def test_every_claim_names_its_test(claim: str) -> None:
    *_, held_by, end = claim.split("|")
    assert end == ""
    left = re.sub(r"`tests/[\w/]+\.py::test_\w+`", "", held_by)
    assert left.strip(" ,") == "", "tests and nothing else"
    assert left != held_by, "no test is named"


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_every_test_that_is_named_exists(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, functions)}
