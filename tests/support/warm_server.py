"""A process that has loaded what a script or a command needs, and forks one of them when asked.

Run as `warm_server.py FD MODULE...`: the modules are loaded once. Each message on the socket FD
is a JSON object (`argv`, `cwd`, `env`) with three descriptors: what the child writes to, twice,
and where its end is told. It is answered with the child's pid. The first of `argv` is a module:
the child calls its `main` with the rest, in a session, a folder and an environment of its own,
and ends as a process that was started for that would. All ends when the socket does.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

LONGEST = 1 << 20


class Child(Exception):
    """Raised in a fork, so that nothing of what its parent was about goes on in it."""

    def __init__(self, argv: list[str]) -> None:
        super().__init__()
        self.argv = argv


class Forks:
    """Those that were begun and have not ended: pidfd -> pid and where the end is told."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._ends: dict[int, tuple[int, int]] = {}

    def serve(self) -> None:
        """Fork whenever asked, and tell of ends, until nobody can ask any more."""
        while True:
            for ready, _ in self._poll.poll():
                if ready != self._control.fileno():
                    self._ended(ready)
                elif not self._asked():
                    return

    def _asked(self) -> bool:
        message, descriptors, _, _ = socket.recv_fds(self._control, LONGEST, 3)
        if not message:
            return False
        out, err, end = descriptors
        wanted = json.loads(message)
        pid = os.fork()
        if not pid:
            become(wanted, out, err)
            raise Child(wanted["argv"])
        pidfd = os.pidfd_open(pid)
        self._ends[pidfd] = pid, end
        self._poll.register(pidfd, select.POLLIN)
        os.close(out)
        os.close(err)
        self._control.send(str(pid).encode())
        return True

    def _ended(self, pidfd: int) -> None:
        pid, end = self._ends.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        try:
            os.write(end, str(os.waitstatus_to_exitcode(status)).encode())
        except BrokenPipeError:
            pass  # nobody wants to know
        os.close(end)


def become(wanted: dict[str, Any], out: int, err: int) -> None:
    """Be to the outside what a process is that was started with *wanted*."""
    os.setsid()
    os.chdir(wanted["cwd"])
    os.environ.clear()
    os.environ.update(wanted["env"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, descriptor in enumerate((nothing, out, err)):
        os.dup2(descriptor, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    sys.path[0] = str(Path(__file__).parents[1])
    for name in sys.argv[2:]:
        importlib.import_module(name)
    gc.freeze()
    try:
        Forks(control).serve()
    except Child as child:
        control.detach()  # it was closed with the rest
        argv = child.argv
    else:
        return
    sys.argv = argv
    run: Callable[[], int | None] = importlib.import_module(argv[0]).main
    sys.exit(run())


if __name__ == "__main__":
    main()
