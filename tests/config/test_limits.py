from __future__ import annotations

from dataclasses import fields

from sidecar.config.limits import LIMITS, Limits
from sidecar.config.parse import parse
from sidecar.config.problem import Notes
from sidecar.config.schema import Field


def read(text: str) -> Limits:
    (node,) = parse(text.encode(), "f").documents
    notes = Notes()
    found = LIMITS.read(node, "spec.limits", notes)
    assert notes.problems == ()
    return found


def test_no_limits_written_are_the_defaults() -> None:
    assert read("{}") == Limits()


def test_every_limit_can_be_written_and_means_what_its_default_says() -> None:
    for field in LIMITS.fields:
        assert isinstance(field, Field)
        assert read(f"{{{field.name}: {field.default}}}") == Limits(), field.name


def test_every_limit_is_above_zero_and_says_what_it_bounds() -> None:
    for one in fields(Limits):
        assert getattr(Limits(), one.name) > 0
        assert one.metadata["doc"].endswith(".")


def test_every_limit_is_in_the_schema_under_its_own_name() -> None:
    names = [field.target for field in LIMITS.fields if isinstance(field, Field)]
    assert names == [one.name for one in fields(Limits)]


def test_each_limit_is_read_into_its_own_place() -> None:
    found = read("{requestBodyBytes: 1KiB, callTimeout: 5s, connections: 7}")
    assert found == Limits(request_body_bytes=1024, call_timeout=5.0, connections=7)
