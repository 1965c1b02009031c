from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.scalars import Trap, resolve


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("NULL", None),
        ("nUll", "nUll"),
        ("true", True),
        ("True", True),
        ("FALSE", False),
        ("tRue", "tRue"),
        ("0", 0),
        ("-12", -12),
        ("+12", 12),
        ("0o17", 15),
        ("0x1F", 31),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("-1.", -1.0),
        ("22:22", "22:22"),
        ("1_000", "1_000"),
        ("2026-01-31", "2026-01-31"),
        ("10.1.2.3", "10.1.2.3"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("-", "-"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("30s", "30s"),
        ("y", "y"),
        ("n", "n"),
        ("None", "None"),
        ("norway", "norway"),
    ],
)
def test_a_plain_scalar_means_what_yaml_1_2_says(text: str, value: object) -> None:
    found = resolve(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["yes", "Yes", "YES", "no", "No", "NO", "on", "On", "off", "OFF"])
def test_a_boolean_of_yaml_1_1_is_a_trap_that_names_both_ways_out(text: str) -> None:
    found = resolve(text)
    assert isinstance(found, Trap)
    assert found.code == "SC0105"
    assert f'"{text}"' in found.help
    assert ("true" if text.lower() in ("yes", "on") else "false") in found.help


@pytest.mark.parametrize(
    "text", ["010", "-07", "00", "9" * 19, "0x" + "f" * 17, "1" * 20 + ".5", "1e999"]
)
def test_a_number_that_readers_read_differently_is_a_trap(text: str) -> None:
    found = resolve(text)
    assert isinstance(found, Trap)
    assert found.code == "SC0106"


@given(st.text(max_size=40))
def test_text_comes_out_as_it_was_or_as_another_type(text: str) -> None:
    found = resolve(text)
    assert found == text or not isinstance(found, str)
