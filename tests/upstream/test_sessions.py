from __future__ import annotations

from sidecar.upstream.sessions import Binding, Sessions

LIFE = 100.0


def bound(sessions: Sessions, session: bytes, now: float = 0.0, most: int = 3) -> Binding:
    binding = Binding("files|v1", "127.0.0.1:80", now)
    sessions.bind("files", session, binding, most=most, life=LIFE)
    return binding


def test_a_session_is_found_where_it_was_bound_and_only_for_its_service() -> None:
    sessions = Sessions()
    binding = bound(sessions, b"one")
    assert sessions.find("files", b"one", 1.0, LIFE) is binding
    assert sessions.find("other", b"one", 1.0, LIFE) is None
    assert sessions.find("files", b"two", 1.0, LIFE) is None
    assert sessions.find("file", b"sone", 1.0, LIFE) is None


def test_a_session_that_is_used_lives_on_and_one_that_is_not_is_forgotten() -> None:
    sessions = Sessions()
    bound(sessions, b"one")
    assert sessions.find("files", b"one", 99.0, LIFE) is not None
    assert sessions.find("files", b"one", 199.0, LIFE) is not None
    assert sessions.find("files", b"one", 299.1, LIFE) is None
    assert len(sessions) == 0


def test_the_longest_unused_makes_room() -> None:
    sessions = Sessions()
    for number, name in enumerate((b"a", b"b", b"c")):
        bound(sessions, name, float(number))
    sessions.find("files", b"a", 3.0, LIFE)
    bound(sessions, b"d", 4.0)
    assert len(sessions) == 3
    assert sessions.find("files", b"b", 5.0, LIFE) is None
    assert sessions.find("files", b"a", 5.0, LIFE) is not None


def test_what_is_too_old_goes_when_something_new_comes() -> None:
    sessions = Sessions()
    bound(sessions, b"a", 0.0)
    bound(sessions, b"b", 50.0)
    bound(sessions, b"c", 149.0)
    assert len(sessions) == 2


def test_an_ended_session_is_forgotten_and_ending_it_twice_is_no_fault() -> None:
    sessions = Sessions()
    bound(sessions, b"one")
    sessions.forget("files", b"one")
    sessions.forget("files", b"one")
    assert sessions.find("files", b"one", 0.0, LIFE) is None


def test_a_session_bound_again_is_where_it_was_bound_last() -> None:
    sessions = Sessions()
    bound(sessions, b"one")
    later = bound(sessions, b"one", 5.0)
    assert sessions.find("files", b"one", 5.0, LIFE) is later
    assert len(sessions) == 1
