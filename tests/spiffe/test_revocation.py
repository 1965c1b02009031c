"""A deny list says no to those on it, to nobody else, and is read as it was written."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.ca.files import MAX_FILE
from sidecar.errors import IdentityError
from sidecar.spiffe.id import SpiffeId
from sidecar.spiffe.revocation import MAX_DOCUMENT, MAX_ENTRIES, Revocations

ALICE = SpiffeId.of_short("agent/alice")
LIST = Revocations(
    "cluster.local", 7, frozenset({str(ALICE)}), {5: 100.0}, frozenset({"ab" * 32}), 30.0
)

CASES = [
    (ALICE, 1, (), "was revoked"),
    (SpiffeId.of_short("agent/bob"), 5, (), "the certificate"),
    (SpiffeId.of_short("agent/bob"), 1, ("cd" * 32, "ab" * 32), "the CA that signed"),
    (SpiffeId.of_short("agent/bob"), 1, ("cd" * 32,), ""),
    (SpiffeId.of_short("agent/alice2"), 1, (), ""),
    (SpiffeId.of_short("agent/alice", "other.test"), 5, ("ab" * 32,), ""),
]


@pytest.mark.parametrize(("who", "serial", "signers", "why"), CASES)
def test_it_says_no_to_those_on_it_alone(
    who: SpiffeId, serial: int, signers: tuple[str, ...], why: str
) -> None:
    said = LIST.why(who, serial, signers)
    assert why in said
    assert bool(said) is bool(why)


def test_it_is_read_as_it_was_written() -> None:
    assert Revocations.parse(LIST.document()) == LIST
    assert Revocations.parse(Revocations("a.test").document()) == Revocations("a.test")


@given(now=st.floats(0, 4e9), steps=st.integers(1, 5))
def test_each_change_has_a_higher_sequence_even_if_the_clock_stands(now: float, steps: int) -> None:
    current, seen = LIST, [LIST.sequence]
    for step in range(steps):
        current = current.with_changes(now, serials={step: now})
        seen.append(current.sequence)
    assert seen == sorted(set(seen))


BROKEN = [
    b"",
    b"[]",
    b"{}",
    b'{"trust_domain":"A","sequence":1,"ids":[],"serials":{},"authorities":[]}',
    b'{"trust_domain":"a","sequence":-1,"ids":[],"serials":{},"authorities":[]}',
    b'{"trust_domain":"a","sequence":true,"ids":[],"serials":{},"authorities":[]}',
    b'{"trust_domain":"a","sequence":1,"ids":"x","serials":{},"authorities":[]}',
    b'{"trust_domain":"a","sequence":1,"ids":["x"],"serials":{},"authorities":[]}',
    b'{"trust_domain":"a","sequence":1,"ids":[],"serials":{"zz":1},"authorities":[]}',
    b'{"trust_domain":"a","sequence":1,"ids":[],"serials":[],"authorities":[]}',
    b'{"trust_domain":"a","sequence":1,"ids":[],"serials":{"1":9%s},"authorities":[]}'
    % (b"9" * 400),
    b'{"trust_domain":"a","sequence":1,"ids":[],"serials":{},"authorities":[1]}',
    b'{"trust_domain":"a","sequence":1,"ids":[],"serials":{},"authorities":[],"refresh_hint":0}',
    b'{"sequence":1,"sequence":1,"trust_domain":"a","ids":[],"serials":{},"authorities":[]}',
]


@pytest.mark.parametrize("data", BROKEN)
def test_what_is_no_list_is_refused_and_not_taken_as_empty(data: bytes) -> None:
    with pytest.raises(IdentityError):
        Revocations.parse(data)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    try:
        Revocations.parse(data)
    except IdentityError:
        pass


def test_it_is_bounded() -> None:
    many = dict.fromkeys(range(MAX_ENTRIES + 1), 1.0)
    with pytest.raises(IdentityError, match="entries"):
        LIST.with_changes(0, serials=many)
    whole = json.loads(LIST.document())
    whole["serials"] = {f"{serial:x}": 1 for serial in many}
    with pytest.raises(IdentityError, match="entries"):
        Revocations.parse(json.dumps(whole).encode())
    with pytest.raises(IdentityError, match="bytes"):
        Revocations.parse(b" " * (MAX_DOCUMENT + 1))
    long = [f"spiffe://cluster.local/{number}/{'x' * 2000}" for number in range(520)]
    with pytest.raises(IdentityError, match="bytes"):
        LIST.with_changes(0, ids=long)
    most = LIST.with_changes(0, serials={1 << 127 | one: 1.79e9 for one in range(MAX_ENTRIES - 9)})
    assert Revocations.parse(most.document()) == most
    assert MAX_DOCUMENT <= MAX_FILE
