from __future__ import annotations

import re
from pathlib import Path

import sidecar
from sidecar.config.codes import CODES

SOURCE = Path(sidecar.__file__).parent


def used() -> set[str]:
    """Return the codes that any module but the tables themselves gives to a problem."""
    return {
        code
        for path in SOURCE.rglob("*.py")
        if not path.name.endswith("codes.py")
        for code in re.findall(r'"(SC\d{4})"', path.read_text())
    }


def test_every_code_that_is_given_is_explained() -> None:
    assert used() - set(CODES) == set()


def test_every_code_that_is_explained_is_given() -> None:
    assert set(CODES) - used() == set()


def test_codes_are_in_order_and_say_something() -> None:
    assert list(CODES) == sorted(CODES)
    for code in CODES.values():
        assert code.title
        assert code.text.endswith((".", "`."))
    assert len({code.title for code in CODES.values()}) == len(CODES)
