"""The issue log over files: each full one is put aside, the chain goes on, old ones are dropped."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sidecar.ca.issue_log import (
    LEAST_SIZE,
    LIMITS,
    LOG,
    LogLimits,
    append,
    lines,
    read_limits,
    set_limits,
)
from sidecar.ca.ledger import certificates, entries
from sidecar.ca.log import LogBroken, read_log
from sidecar.ca.revocations import revoke_serial
from sidecar.ca.store import LocalCa, make_ca, new_key
from sidecar.errors import StartError
from sidecar.spiffe.id import SpiffeId

NOW = 1_790_000_000.0
DAY = 86400.0
FAT = {"with": "x" * (LEAST_SIZE // 2)}  # two of them fill a file


@pytest.fixture
def ca(tmp_path: Path) -> LocalCa:
    made = make_ca(tmp_path / "ca", "cluster.local", NOW)
    set_limits(made.folder, LogLimits(LEAST_SIZE, keep=2))
    return made


def parts(ca: LocalCa) -> list[str]:
    return sorted(path.name for path in ca.folder.glob("issued-*.jsonl"))


def fill(ca: LocalCa, files: int, now: float = NOW) -> None:
    """Add *files* times what fills a file."""
    for _ in range(2 * files):
        ca.record("looked", FAT, now)


def test_a_full_file_is_put_aside_and_the_chain_goes_on(ca: LocalCa) -> None:
    fill(ca, 2)
    assert parts(ca) == ["issued-000000000001.jsonl"]
    fill(ca, 1)
    assert parts(ca) == ["issued-000000000001.jsonl", "issued-000000000004.jsonl"]
    assert [one.number for one in entries(ca.folder)] == list(range(1, 8))
    assert all((ca.folder / name).stat().st_mode & 0o777 == 0o600 for name in (*parts(ca), LOG))


def test_no_file_is_longer_than_its_limit_and_one_line(ca: LocalCa) -> None:
    fill(ca, 3)
    sizes = [path.stat().st_size for path in ca.folder.glob("issued*.jsonl")]
    assert max(sizes) < LEAST_SIZE + LEAST_SIZE // 2 + 1000


@pytest.mark.parametrize("name", ["issued-000000000001.jsonl", "issued-000000000004.jsonl"])
def test_a_file_that_was_changed_or_removed_shows(ca: LocalCa, name: str) -> None:
    fill(ca, 3)
    path = ca.folder / name
    text = path.read_bytes()
    path.write_bytes(text.replace(b"looked", b"lo0ked", 1))
    with pytest.raises(LogBroken):
        list(entries(ca.folder))
    path.unlink()
    with pytest.raises(LogBroken):
        list(entries(ca.folder))


def test_what_is_old_is_dropped_and_the_chain_says_so(ca: LocalCa) -> None:
    fill(ca, 2)
    fill(ca, 4, NOW + 40 * DAY)
    first = next(entries(ca.folder)).number
    assert first > 1
    told = [one.facts["through"] for one in entries(ca.folder) if one.event == "pruned"]
    assert told[-1] == first - 1
    assert len(parts(ca)) >= 2


def test_what_may_still_be_revoked_is_not_dropped(ca: LocalCa) -> None:
    issued = ca.issue(SpiffeId.of_short("agent/a"), new_key().public_key(), ttl=60 * DAY, now=NOW)
    fill(ca, 5, NOW + 40 * DAY)
    assert next(entries(ca.folder)).number == 1
    assert len(certificates(ca.folder, NOW + 40 * DAY)) == 1
    found = revoke_serial(ca, issued.svid.serial, NOW + 80 * DAY)
    assert [one.serial for one in found] == [issued.svid.serial]


def test_what_is_young_is_not_dropped_however_much_there_is(ca: LocalCa) -> None:
    fill(ca, 6)
    assert len(parts(ca)) == 5
    assert next(entries(ca.folder)).number == 1


def test_a_file_under_both_names_is_read_once_and_put_aside_later(ca: LocalCa) -> None:
    fill(ca, 1)
    os.link(ca.folder / LOG, ca.folder / "issued-000000000001.jsonl")  # killed just then
    assert [one.number for one in entries(ca.folder)] == [1, 2, 3]
    ca.record("looked", {}, NOW)
    assert [one.number for one in entries(ca.folder)] == [1, 2, 3, 4]
    assert (ca.folder / LOG).stat().st_nlink == 1


def test_another_file_of_that_name_is_not_overwritten(ca: LocalCa) -> None:
    fill(ca, 1)
    stranger = ca.folder / "issued-000000000001.jsonl"
    stranger.write_text("mine\n")
    with pytest.raises(StartError, match="stands in the way"):
        ca.record("looked", {}, NOW)
    assert stranger.read_text() == "mine\n"


def test_a_line_cut_short_at_the_end_of_a_full_file_is_mended_first(ca: LocalCa) -> None:
    fill(ca, 1)
    with (ca.folder / LOG).open("ab") as file:
        file.write(b'{"n":4')
    ca.record("looked", {}, NOW)
    assert [one.event for one in entries(ca.folder)][-2:] == ["mended", "looked"]
    assert parts(ca) == []
    ca.record("looked", {}, NOW)
    assert len(parts(ca)) == 1


def test_who_reads_while_a_file_is_put_aside_reads_it_all(ca: LocalCa) -> None:
    fill(ca, 1)
    reading = lines(ca.folder)
    begun = [next(reading)]
    fill(ca, 1)
    assert [one.number for one in read_log([*begun, *reading])][:3] == [1, 2, 3]


def test_a_damaged_full_file_is_not_dropped(ca: LocalCa) -> None:
    fill(ca, 3)
    (ca.folder / parts(ca)[0]).write_bytes(b"not an entry\n")
    with pytest.raises(StartError, match="damaged"):
        fill(ca, 2, NOW + 40 * DAY)
    assert len(parts(ca)) == 3


def test_without_a_word_there_is_a_bound(tmp_path: Path) -> None:
    assert read_limits(tmp_path) == LogLimits()
    assert LogLimits().size * LogLimits().keep <= 1 << 30


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"size": "x", "keep": 1}', '{"size": 1}'])
def test_limits_that_cannot_be_read_stop_the_issue(ca: LocalCa, text: str) -> None:
    (ca.folder / LIMITS).write_text(text)
    (ca.folder / LIMITS).chmod(0o644)
    before = (ca.folder / LOG).read_bytes()
    with pytest.raises(StartError, match=LIMITS):
        append(ca.folder, "looked", {}, NOW)
    assert (ca.folder / LOG).read_bytes() == before


def test_limits_are_kept_as_they_were_said(ca: LocalCa) -> None:
    assert json.loads((ca.folder / LIMITS).read_text()) == {"size": LEAST_SIZE, "keep": 2}
    for size, keep in ((LEAST_SIZE - 1, 1), (LEAST_SIZE, 0)):
        with pytest.raises(StartError, match="too small"):
            LogLimits(size, keep)
