"""What whoever starts a sidecar lends it: folders for its state and its sockets, a credential.

systemd tells them to the unit in its environment (systemd.exec(5)), an image in its own.
Who looks at a unit's sidecar from outside is told the same, by the name of its file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from .. import units

JOIN_TOKEN: Final = "join-token"  # noqa: S105 - the name of a credential
_BOOTSTRAP: Final = ".yaml"


def seen_from(config: Path, environment: Mapping[str, str]) -> Mapping[str, str]:
    """Return *environment* with what the unit of *config* is told, if this is not that unit."""
    if config.parent != Path(units.CONFIGURATION) or config.suffix != _BOOTSTRAP:
        return environment
    told = {
        "STATE_DIRECTORY": f"{units.STATE}/{config.stem}",
        "RUNTIME_DIRECTORY": f"{units.RUNTIME}/{config.stem}",
    }
    found = {name: path for name, path in told.items() if Path(path).is_dir()}
    return {**found, **environment}


def state(environment: Mapping[str, str]) -> Path | None:
    """Return the folder that is kept over restarts, if one is lent."""
    first = environment.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(first) if first else None


def credential(environment: Mapping[str, str], name: str) -> Path | None:
    """Return where the credential *name* is, if credentials are lent."""
    folder = environment.get("CREDENTIALS_DIRECTORY", "")
    return Path(folder, name) if folder else None
