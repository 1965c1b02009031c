"""What the conformance suite runs as its client: `ask.py SOCKET URL` has `client.py` do it.

It imports no more than it must, because it is started for every scenario.
"""

from __future__ import annotations

import json
import os
import socket
import sys


def main() -> int:
    path, url = sys.argv[1:]
    task = {
        "scenario": os.environ["MCP_CONFORMANCE_SCENARIO"],
        "version": os.environ["MCP_CONFORMANCE_PROTOCOL_VERSION"],
        "context": json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}")),
        "url": url,
    }
    with socket.socket(socket.AF_UNIX) as asked:
        asked.connect(path)
        asked.sendall(json.dumps(task).encode() + b"\n")
        with asked.makefile() as answer:
            code, wrong = answer.readline(), answer.read()
    print(wrong, file=sys.stderr)
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
