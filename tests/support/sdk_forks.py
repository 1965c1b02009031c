"""Runs a client script again and again, each time in a process of its own that is quick to start.

Run as `sdk_forks.py SCRIPT`: the script is loaded once, with the SDK that takes most of a
client's time. Each line on stdin is a JSON list of arguments; a fork of this process then
does what the script does with them, and a last line `ended N` gives its exit code.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import traceback


def play(script, arguments: list[str]) -> int:
    """Be the client with these arguments; return its exit code."""
    sys.argv[1:] = arguments
    try:
        asyncio.run(script.main())
    except BaseException:  # a fork has nobody above it who could be told
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    script = importlib.import_module(sys.argv[1])
    for line in sys.stdin:
        sys.stdout.flush()
        child = os.fork()
        if not child:
            code = play(script, json.loads(line))
            sys.stdout.flush()
            os._exit(code)
        _, status = os.waitpid(child, 0)
        print(f"ended {os.waitstatus_to_exitcode(status)}", flush=True)


if __name__ == "__main__":
    main()
