from __future__ import annotations

import json

import pytest
import yaml

from sidecar.config import loaded as module
from sidecar.config.loaded import Loaded, Reader, parse_documents
from sidecar.errors import Where

PEER = """\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: %s}
spec: {}
"""
BOOT = """\
apiVersion: sidecar/v1
kind: Sidecar
metadata: {name: files, namespace: home}
spec:
  inbound: [{listen: "127.0.0.1:1", to: "unix:/a"}]
"""


def codes(loaded: Loaded) -> list[str]:
    return [problem.code for problem in loaded.problems]


def names(loaded: Loaded) -> list[str]:
    return [f"{one.metadata.namespace}/{one.metadata.name}" for one in loaded.documents]


def test_a_document_without_a_namespace_is_in_the_one_that_is_given() -> None:
    loaded = parse_documents((PEER % "a").encode(), "f", namespace="prod")
    assert names(loaded) == ["prod/a"]
    assert names(parse_documents((PEER % "a").encode(), "f")) == ["default/a"]
    text = PEER.replace("%s", "a, namespace: own")
    assert names(parse_documents(text.encode(), "f", namespace="prod")) == ["own/a"]


def test_a_broken_document_leaves_the_others() -> None:
    text = PEER % "a" + "---\n" + (PEER % "b").replace("spec", "spek") + "---\n" + PEER % "c"
    loaded = parse_documents(text.encode(), "f")
    assert names(loaded) == ["default/a", "default/c"]
    assert codes(loaded) == ["SC0202", "SC0204"]


def test_documents_may_come_in_a_list_or_as_kubernetes_prints_several() -> None:
    one, other = (json.dumps(yaml.safe_load(PEER % name)) for name in "ab")
    boot = json.dumps(yaml.safe_load(BOOT))
    envelope = (
        f'{{"apiVersion": "v1", "kind": "List", "metadata": {{}}, "items": [{one}, {other}]}}'
    )
    for text in (f"[{one}, {other}]", envelope, f"{one}\n---\n[{other}]"):
        assert names(parse_documents(text.encode(), "f")) == ["default/a", "default/b"], text
    found = parse_documents(f"[{one}, {boot}]".encode(), "f")
    assert found.bootstrap is not None
    assert parse_documents(f"[{boot}, {boot}]".encode(), "f").problems[0].code == "SC0306"
    assert codes(parse_documents(f"[[{one}]]".encode(), "f")) == ["SC0203"]
    assert names(parse_documents(b"[]", "f")) == []


def test_two_documents_of_one_name_are_refused_at_the_second() -> None:
    text = PEER % "a" + "---\n" + PEER % "b" + "---\n" + PEER % "a"
    loaded = parse_documents(text.encode(), "f")
    assert codes(loaded) == ["SC0305"]
    (problem,) = loaded.problems
    assert problem.where.line == 11
    assert "f:1:1" in problem.why
    assert names(loaded) == ["default/a", "default/b"]


def test_one_name_may_be_had_by_two_kinds_and_in_two_namespaces() -> None:
    rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
    rule += "metadata: {name: a}\nspec: {host: b}\n"
    text = PEER % "a" + "---\n" + rule + "---\n" + PEER % "a, namespace: other"
    assert codes(parse_documents(text.encode(), "f")) == []


def test_a_second_bootstrap_is_refused() -> None:
    reader = Reader()
    assert reader.add(BOOT.encode(), "a") is not None
    assert reader.add(BOOT.encode(), "b") is None
    loaded = reader.loaded(())
    assert codes(loaded) == ["SC0306"]
    assert "a:1:1" in loaded.problems[0].why
    assert loaded.bootstrap is not None


def test_problems_come_in_the_order_of_files_and_lines() -> None:
    reader = Reader()
    reader.add(b"kind: x\n---\na: yes\n", "z")
    reader.add(b"a: no\n", "b")
    loaded = reader.loaded(reader.documents("n"))
    places = [problem.where for problem in loaded.problems]
    assert places == sorted(places, key=lambda where: (where.file != "z", where))
    assert {where.file for where in places} == {"z", "b"}


def test_a_load_knows_its_files_and_their_lines() -> None:
    loaded = parse_documents(b"a: 1\nb: 2", "f")
    assert loaded.files == ("f",)
    assert loaded.sources["f"] == ("a: 1", "b: 2")


def test_errors_are_the_problems_that_are_none_of_the_warnings() -> None:
    text = (PEER % "a").replace("spec: {}", "spec: {selector: {}, x: 1}")
    loaded = parse_documents(text.encode(), "f")
    assert codes(loaded) == ["SC0411", "SC0204"]
    assert [problem.code for problem in loaded.errors] == ["SC0204"]


def test_too_many_documents_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_DOCUMENTS", 2)
    text = "---\n".join(PEER % f"a{n}" for n in range(3))
    loaded = parse_documents(text.encode(), "f")
    assert codes(loaded) == ["SC0109"]
    assert loaded.problems[0].where == Where("f", 11, 1)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("- some words\n- {id: a, text: other words}\n", []),
        ("patterns: [a]\n", ["SC0203"]),
        ("", ["SC0203"]),
        ("- a words\n---\n- b words\n", ["SC0203"]),
        ("[]", ["SC0210"]),
    ],
)
def test_a_pattern_file_is_one_list(text: str, found: list[str]) -> None:
    reader = Reader()
    patterns = reader.patterns(text.encode(), "p")
    assert [problem.code for problem in reader.notes.problems] == found
    assert [one.id for one in patterns] == ([] if found else ["patterns[0]", "a"])


def test_more_problems_than_are_kept_are_counted() -> None:
    text = "---\n".join("a: yes\n" for _ in range(600))
    loaded = parse_documents(text.encode(), "f")
    assert len(loaded.problems) == 500
    assert loaded.dropped > 0
