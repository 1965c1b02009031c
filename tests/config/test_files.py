from __future__ import annotations

import os
from pathlib import Path

import pytest

from sidecar.config.documents import Inspection
from sidecar.config.files import FileLimits, load
from sidecar.config.loaded import Loaded
from sidecar.config.parse import ParseLimits
from sidecar.errors import Where

BOOT = """\
apiVersion: sidecar/v1
kind: Sidecar
metadata: {name: files, namespace: home}
spec:
  inbound: [{listen: "127.0.0.1:1", to: "unix:/a"}]
  documents: [./policies, ./more.yaml]
"""
PEER = """\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: %s}
spec: {}
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every test in a folder that only its owner may write."""
    tmp_path.chmod(0o700)
    monkeypatch.chdir(tmp_path)


def write(name: str, text: str, mode: int = 0o644) -> str:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return name


def codes(loaded: Loaded) -> list[str]:
    return [problem.code for problem in loaded.problems]


def names(loaded: Loaded) -> list[str]:
    return [f"{one.metadata.namespace}/{one.metadata.name}" for one in loaded.documents]


def test_a_bootstrap_brings_the_files_and_folders_it_names() -> None:
    write("conf/boot.yaml", BOOT)
    write("conf/policies/b.yml", PEER % "b")
    write("conf/policies/a.yaml", PEER % "a")
    write(
        "conf/policies/c.json",
        '{"apiVersion": "security.istio.io/v1", "kind": '
        '"PeerAuthentication", "metadata": {"name": "c", "namespace": "own"}, "spec": {}}',
    )
    write("conf/policies/.hidden.yaml", "[")
    write("conf/policies/notes.txt", "[")
    write("conf/policies/sub/d.yaml", "[")
    write("conf/more.yaml", PEER % "more")
    loaded = load(["conf/boot.yaml"])
    assert loaded.problems == ()
    assert loaded.bootstrap is not None
    assert names(loaded) == ["home/a", "home/b", "own/c", "home/more"]
    assert loaded.files == (
        "conf/boot.yaml",
        "conf/policies/a.yaml",
        "conf/policies/b.yml",
        "conf/policies/c.json",
        "conf/more.yaml",
    )
    assert loaded.documents[0].at == Where("conf/policies/a.yaml", 1, 1)


def test_without_a_bootstrap_documents_are_in_the_default_namespace() -> None:
    assert names(load([write("a.yaml", PEER % "a")])) == ["default/a"]


def test_a_file_that_is_named_twice_is_read_once() -> None:
    write("policies/a.yaml", PEER % "a")
    os.symlink("policies/a.yaml", "again.yaml")
    loaded = load(["policies", "policies/a.yaml", "again.yaml"])
    assert loaded.problems == ()
    assert names(loaded) == ["default/a"]


def test_texts_that_are_in_no_file_are_read_first() -> None:
    write("policies/a.yaml", PEER % "a")
    write("more.yaml", PEER % "b")
    loaded = load([], given={"<flags>": BOOT.encode()})
    assert loaded.problems == ()
    assert names(loaded) == ["home/a", "home/b"]
    assert loaded.sources["<flags>"][0] == "apiVersion: sidecar/v1"


def test_a_missing_file_is_told_where_it_is_named() -> None:
    write("boot.yaml", BOOT)
    loaded = load(["boot.yaml", "gone.yaml"])
    assert codes(loaded) == ["SC0801"] * 3
    places = [problem.where for problem in loaded.problems]
    assert Where("gone.yaml") in places
    assert Where("boot.yaml", 6, 15) in places
    assert Where("boot.yaml", 6, 27) in places


def test_an_empty_folder_draws_a_warning() -> None:
    write("boot.yaml", BOOT)
    write("more.yaml", PEER % "a")
    Path("policies").mkdir()
    loaded = load(["boot.yaml"])
    assert codes(loaded) == ["SC0805"]
    assert loaded.errors == ()


@pytest.mark.parametrize("mode", [0o666, 0o646, 0o602])
def test_a_file_that_everybody_may_write_is_refused(mode: int) -> None:
    loaded = load([write("a.yaml", PEER % "a", mode)])
    assert codes(loaded) == ["SC0803"]
    assert loaded.documents == ()


def test_a_file_in_a_folder_that_everybody_may_write_is_refused() -> None:
    write("open/a.yaml", PEER % "a")
    Path("open").chmod(0o777)
    assert codes(load(["open"])) == ["SC0803"]
    assert codes(load(["open/a.yaml"])) == ["SC0803"]


def test_a_folder_whose_files_only_their_owners_may_replace_is_fine() -> None:
    write("sticky/a.yaml", PEER % "a")
    Path("sticky").chmod(0o1777)
    assert codes(load(["sticky/a.yaml"])) == []


def test_a_link_does_not_hide_who_may_write_its_target() -> None:
    write("open/a.yaml", PEER % "a")
    os.symlink("open/a.yaml", "a.yaml")
    Path("open").chmod(0o777)
    assert codes(load(["a.yaml"])) == ["SC0803"]


@pytest.mark.parametrize(("group", "found"), [(os.getegid(), []), (54321, ["SC0803"])])
def test_a_file_that_a_group_may_write_must_be_of_our_own(
    group: int, found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("a.yaml", PEER % "a", 0o664)
    os_stat = os.fstat

    def stat_with_group(descriptor: int) -> os.stat_result:
        status = list(os_stat(descriptor))
        status[5] = group
        return os.stat_result(status)

    monkeypatch.setattr(os, "fstat", stat_with_group)
    assert codes(load(["a.yaml"])) == found


def test_a_file_of_another_user_draws_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    write("a.yaml", PEER % "a")
    own = os.stat("a.yaml").st_uid
    os_stat = os.fstat

    def stat_with_owner(descriptor: int) -> os.stat_result:
        status = list(os_stat(descriptor))
        status[4] = own + 4321
        return os.stat_result(status)

    monkeypatch.setattr(os, "fstat", stat_with_owner)
    loaded = load(["a.yaml"])
    assert codes(loaded) == ["SC0804"]
    assert names(loaded) == ["default/a"]


def test_what_is_no_file_is_refused_without_waiting() -> None:
    os.mkfifo("pipe.yaml", 0o600)
    assert codes(load(["pipe.yaml", "/dev/null"])) == ["SC0802", "SC0802"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_told() -> None:
    assert codes(load([write("a.yaml", PEER % "a", 0o000)])) == ["SC0802"]


@pytest.mark.parametrize("name", ["a\0b.yaml", "", "x" * 300])
def test_a_name_that_no_file_can_have_is_told(name: str) -> None:
    assert codes(load([name])) in (["SC0801"], ["SC0802"])


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (FileLimits(files=2), "SC0806"),
        (FileLimits(bytes=150), "SC0806"),
        (FileLimits(each=ParseLimits(bytes=20)), "SC0109"),
    ],
)
def test_more_than_is_read_in_all_is_refused(limits: FileLimits, code: str) -> None:
    for number in range(3):
        write(f"policies/{number}.yaml", PEER % f"a{number}")
    loaded = load(["policies"], limits)
    assert code in codes(loaded)
    assert set(codes(loaded)) == {code}


INSPECTION = """\
apiVersion: sidecar/v1
kind: Inspection
metadata: {name: words}
spec:
  patterns: [{id: own, text: "own words"}]
  patternFiles: [packs/a.yaml]
"""


def test_pattern_files_bring_their_patterns() -> None:
    write("policies/i.yaml", INSPECTION)
    write("policies/packs/a.yaml", '- {id: first, text: "first words"}\n- second words\n')
    loaded = load(["policies"])
    assert loaded.problems == ()
    (found,) = loaded.documents
    assert isinstance(found, Inspection)
    assert [pattern.id for pattern in found.spec.patterns] == ["own", "first", "patterns[1]"]
    assert found.spec.patterns[1].at == Where("policies/packs/a.yaml", 1, 3)
    assert "policies/packs/a.yaml" in loaded.files


@pytest.mark.parametrize(
    ("text", "mode", "code"),
    [
        ("- {id: own, text: more words}\n", 0o644, "SC0502"),
        ("patterns: [more words]\n", 0o644, "SC0203"),
        ("- more words\n", 0o666, "SC0803"),
        (None, 0, "SC0801"),
    ],
)
def test_a_pattern_file_that_cannot_be_used_is_an_error(
    text: str | None, mode: int, code: str
) -> None:
    write("policies/i.yaml", INSPECTION)
    if text is not None:
        write("policies/packs/a.yaml", text, mode)
    assert [problem.code for problem in load(["policies"]).errors] == [code]


def test_a_bootstrap_in_its_own_folder_of_documents_is_read_once() -> None:
    write("policies/boot.yaml", BOOT.replace("[./policies, ./more.yaml]", "[.]"))
    write("policies/a.yaml", PEER % "a")
    loaded = load(["policies/boot.yaml"])
    assert loaded.problems == ()
    assert names(loaded) == ["home/a"]
