"""What was issued is read from the log, and a log that was changed is not believed."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.ca.issue_log import LOG
from sidecar.ca.ledger import certificates, entries
from sidecar.ca.log import LogBroken
from sidecar.ca.store import LocalCa, make_ca, new_key
from sidecar.spiffe.id import SpiffeId

NOW = 1_790_000_000.0


@pytest.fixture
def ca(tmp_path: Path) -> LocalCa:
    made = make_ca(tmp_path / "ca", "cluster.local", NOW)
    for name, ttl in (("agent/a", 100.0), ("agent/b", 200.0)):
        made.issue(SpiffeId.of_short(name), new_key().public_key(), ttl=ttl, now=NOW)
    return made


def test_only_certificates_that_hold_are_listed(ca: LocalCa) -> None:
    assert [one.id[-1] for one in certificates(ca.folder, NOW)] == ["a", "b"]
    assert [one.id[-1] for one in certificates(ca.folder, NOW + 150)] == ["b"]
    (last,) = certificates(ca.folder, NOW + 150)
    assert last.not_after == NOW + 200
    assert certificates(ca.folder, NOW + 200) == []


def test_other_events_are_in_the_log_too(ca: LocalCa) -> None:
    ca.record("join_refused", {"reason": "used"}, NOW)
    assert [one.event for one in entries(ca.folder)][-1] == "join_refused"
    assert len(certificates(ca.folder, NOW)) == 2


def test_a_changed_line_is_found(ca: LocalCa) -> None:
    path = ca.folder / LOG
    path.write_text(path.read_text().replace("sa/a", "sa/z", 1))
    with pytest.raises(LogBroken):
        list(entries(ca.folder))
