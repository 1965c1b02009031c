"""Checks of programs that a sidecar starts as servers: whether they can be started.

They are looked for as they will be, and not started.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from typing import Final

from ..config.stdio import StdioSpec
from .outcome import Outcome, bad, good

_INSTALL: Final = "install it, name it by its whole path, or set PATH in `stdio.env`"


def programs(specs: Mapping[str, StdioSpec], environment: Mapping[str, str]) -> Iterator[Outcome]:
    """Say of every program, by what stands for it, whether it is there; and where it is to run."""
    for address, spec in specs.items():
        program = spec.command[0]
        path = spec.environment(environment).get("PATH")
        found = shutil.which(
            os.path.join(spec.cwd, program) if _is_beside(program) else program, path=path
        )
        if found is None:
            yield bad("server", f"{address}: there is no program `{program}`", _INSTALL)
        elif spec.cwd and not os.path.isdir(spec.cwd):
            yield bad("server", f"{address}: `{spec.cwd}` is no folder", "make it, or change `cwd`")
        else:
            yield good("server", f"{address}: {found}")


def _is_beside(program: str) -> bool:
    """Whether *program* is a path that is relative to the folder it runs in."""
    return "/" in program and not program.startswith("/")
