"""Shapes: what an order of kinds means, and that only so many are kept."""

from __future__ import annotations

from itertools import product

import pytest

from sidecar.http.shapes import (
    CODING,
    CONNECTION,
    DROP,
    ENCODING,
    HOST,
    LENGTH,
    MIRROR,
    ORIGIN,
    PASS,
    REQUEST_ID,
    TYPE,
    Shape,
    Shapes,
)


def test_a_shape_says_where_the_single_fields_stand() -> None:
    shape = Shape((PASS, HOST, TYPE, LENGTH, CONNECTION, REQUEST_ID))
    assert shape.ordinary
    assert (shape.host, shape.type, shape.length) == (1, 2, 3)
    assert (shape.connection, shape.request_id, shape.encoding) == (4, 5, -1)


@pytest.mark.parametrize(
    ("kinds", "forward", "mirrors"),
    [
        ((HOST, DROP), (), ()),
        ((HOST, PASS), ("1",), ()),
        ((MIRROR, HOST, TYPE, LENGTH, ENCODING), ("0", "2", "4"), ("0",)),
        ((HOST, ORIGIN), ("1",), ()),
        ((MIRROR, REQUEST_ID, MIRROR, PASS), ("0", "2", "3"), ("0", "2")),
    ],
)
def test_a_shape_takes_what_goes_on_and_what_mirrors(
    kinds: tuple[int, ...], forward: tuple[str, ...], mirrors: tuple[str, ...]
) -> None:
    shape, fields = Shape(kinds), [str(at) for at in range(len(kinds))]
    assert shape.forward(fields) == forward
    assert shape.mirrors(fields) == mirrors


@pytest.mark.parametrize("kind", [HOST, LENGTH, TYPE, CONNECTION, ENCODING, REQUEST_ID])
def test_a_shape_with_a_single_field_twice_is_not_ordinary(kind: int) -> None:
    assert not Shape((kind, PASS, kind)).ordinary


def test_a_shape_with_a_rare_field_is_not_ordinary() -> None:
    assert not Shape((HOST, CODING)).ordinary
    assert not Shape((HOST, ORIGIN)).ordinary
    assert Shape((HOST, PASS, PASS)).ordinary


def test_a_shape_is_worked_out_once() -> None:
    shapes = Shapes()
    assert shapes.of((HOST, PASS)) is shapes.of((HOST, PASS))


def test_only_so_many_shapes_are_kept_and_none_of_a_long_head() -> None:
    shapes = Shapes()
    for kinds in product((PASS, DROP, HOST), repeat=6):
        assert shapes.of(kinds).host == (kinds.index(HOST) if HOST in kinds else -1)
    assert len(shapes) == 256
    shapes.of((PASS,) * 33)
    assert len(shapes) == 256
    assert (PASS,) * 33 not in shapes._known
