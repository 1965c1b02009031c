"""The race: this sidecar and other proxies on the same job, side by side.

Run it as `python bench/race.py`; what it does and prints is in bench/README.md.
"""

from __future__ import annotations

from race.command import main

if __name__ == "__main__":
    raise SystemExit(main())
