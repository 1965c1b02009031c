"""`python -m machine BOOT`: do the steps of one boot, and leave what they found as JSON."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from .plan import BOOTS
from .shell import Facts


def main(boot: str) -> None:
    found: dict[str, object] = {}
    for step in BOOTS[boot]:
        found[step.__name__] = facts_of(step)
        Path("/opt/steps", f"{boot}.json").write_text(json.dumps(found, indent=2))


def facts_of(step: Callable[[], Facts]) -> Facts:
    """A step that fails is a fact, too: the others are done all the same."""
    try:
        return step()
    except Exception:
        return {"failed": traceback.format_exc()}


main(sys.argv[1])
