"""A check of the access log: without it a sidecar does not start."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from .outcome import Outcome, bad, good, skipped

STREAMS: Final = ("stdout", "stderr", "none")


def writable(where: str) -> Outcome:
    """Say whether the file *where* can be written, or made, by whoever asks."""
    if where in STREAMS:
        return skipped("access log", f"goes to {where}" if where != "none" else "none is kept")
    path = Path(where)
    if path.exists():
        if not path.is_dir() and os.access(path, os.W_OK):
            return good("access log", f"{path} can be written")
        return bad("access log", f"{path} cannot be written", f"make it a file of yours: {path}")
    if not path.parent.is_dir():
        remedy = f"mkdir -p {path.parent}, or change `log.access`"
        return bad("access log", f"there is no folder {path.parent}", remedy)
    if not os.access(path.parent, os.W_OK | os.X_OK):
        remedy = "give the folder to the user that runs the sidecar, or change `log.access`"
        return bad("access log", f"nothing can be written in {path.parent}", remedy)
    return good("access log", f"{path} can be made")
