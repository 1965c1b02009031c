"""What lies on a shelf: what can be lent of it, what is closed first, and what shutting it ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import pytest

from sidecar.net.dial import Held
from sidecar.net.shelf import Shelf
from sidecar.upstream.endpoint import Endpoint

A, B = Endpoint("a:80"), Endpoint("b:80")


@dataclass(eq=False)
class Connection:
    """As much of a connection as a shelf looks at."""

    endpoint: Endpoint = A
    lives: bool = True
    room: int = 0
    carries: bool = False
    told: list[str] = field(default_factory=list)

    def alive(self) -> bool:
        return self.lives

    def leave(self) -> None:
        self.told.append("leave")


def shelf(*connections: Connection) -> Shelf:
    made = Shelf(http2=False)
    for one in connections:
        made.idle.setdefault(one.endpoint, []).append(cast(Held, one))
    return made


def test_a_connection_is_taken_once_and_one_that_shares_stays_while_it_has_room() -> None:
    one, shared = Connection(), Connection(B, room=2)
    some = shelf(one, shared)
    assert (some.take(A), some.take(A)) == (one, None)
    assert (some.take(B), some.take(B)) == (shared, shared)
    shared.room = 1
    assert (some.take(B), some.take(B)) == (shared, None)


def test_what_has_ended_is_passed_over() -> None:
    fit, ended = Connection(), Connection(lives=False)
    some = shelf(fit, ended)
    assert (some.take(A), some.take(A)) == (fit, None)


@pytest.mark.parametrize(("ejected", "avoid"), [(True, ()), (False, ("a:80",))])
def test_any_means_any_that_is_fit(*, ejected: bool, avoid: tuple[str, ...]) -> None:
    out = Endpoint("a:80")
    out.ejected = ejected
    elsewhere = Connection(B)
    some = shelf(Connection(out), elsewhere)
    assert (some.take_any(avoid), some.take_any(avoid)) == (elsewhere, None)


def test_room_is_made_by_what_carries_nothing() -> None:
    busy, idle, beside = Connection(carries=True), Connection(), Connection(B)
    some = shelf(busy, idle, beside)
    assert [some.spare(), some.spare(), some.spare()] == [True, True, False]
    assert (busy.told, idle.told, beside.told) == ([], ["leave"], ["leave"])


def test_what_is_lost_is_forgotten_wherever_it_was() -> None:
    one, lent = Connection(), Connection(B)
    some = shelf(one)
    some.lose(cast(Held, one))
    some.lose(cast(Held, lent))
    assert some.take(A) is None
    assert (one.told, lent.told) == ([], [])


def test_addresses_that_have_gone_take_their_connections_with_them() -> None:
    stays, goes = Connection(), Connection(B)
    some = shelf(stays, goes)
    some.keep({"a:80"})
    assert (stays.told, goes.told) == ([], ["leave"])
    assert (some.take(A), some.take(B)) == (stays, None)


def test_a_shelf_that_is_cleared_goes_on_and_one_that_is_shut_does_not() -> None:
    first, second = Connection(), Connection()
    some = shelf(first)
    some.coming.add(A)
    some.clear()
    assert (first.told, some.open, some.coming) == (["leave"], True, {A})
    some.idle[A] = [cast(Held, second)]
    some.shut()
    assert (second.told, some.open, some.coming, some.take(A)) == (["leave"], False, set(), None)
