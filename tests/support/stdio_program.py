"""A program that speaks MCP over its standard streams, and does what a test needs: `python FILE`.

It imports nothing but the standard library, so that it starts at once. What it is to do
is the name of the tool that is called; with `--fail` it ends at once, with `--silent` it
never says a word.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import subprocess
import sys
import time

VERSION = "io.modelcontextprotocol/protocolVersion"


def say(**message: object) -> None:
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def text(id: object, said: object) -> None:
    words = said if isinstance(said, str) else json.dumps(said)
    say(id=id, result={"content": [{"type": "text", "text": words}]})


def progress(token: object, message: str) -> None:
    params = {"progressToken": token, "progress": 1, "message": message}
    say(method="notifications/progress", params=params)


class Program:
    def __init__(self) -> None:
        self.gates: dict[str, object] = {}
        self.cancelled: list[object] = []
        self.asked: dict[object, object] = {}

    def heard(self, message: dict[str, object]) -> None:
        if message.get("method") == "notifications/cancelled":
            self.cancelled.append(message["params"]["requestId"])
        elif "method" not in message:
            text(self.asked.pop(message["id"]), message["result"]["answer"])
        elif "id" in message:
            self.request(message["id"], message["method"], message.get("params") or {})

    def request(self, id: object, method: str, params: dict[str, object]) -> None:
        if method == "initialize":
            info = {"name": "program", "version": "1"}
            version = params["protocolVersion"]
            say(id=id, result={"protocolVersion": version, "capabilities": {}, "serverInfo": info})
        elif method == "tools/call":
            token = (params.get("_meta") or {}).get("progressToken")
            getattr(self, params["name"])(id, params.get("arguments") or {}, token)
        else:
            say(id=id, error={"code": -32601, "message": "Method not found"})

    def whoami(self, id: object, arguments: dict[str, object], token: object) -> None:
        text(id, {"pid": os.getpid(), "env": dict(os.environ), "cwd": os.getcwd()})

    def echo(self, id: object, arguments: dict[str, object], token: object) -> None:
        text(id, arguments["text"])

    def gate(self, id: object, arguments: dict[str, object], token: object) -> None:
        self.gates[arguments["name"]] = id
        progress(token, "waiting")

    def opens(self, id: object, arguments: dict[str, object], token: object) -> None:
        text(self.gates.pop(arguments["name"]), "passed")
        text(id, "opened")

    def ledger(self, id: object, arguments: dict[str, object], token: object) -> None:
        text(id, self.cancelled)

    def ask(self, id: object, arguments: dict[str, object], token: object) -> None:
        self.asked["q1"] = id
        say(id="q1", method="elicitation/create", params={"message": "what is it?"})

    def news(self, id: object, arguments: dict[str, object], token: object) -> None:
        text(id, "soon")
        say(method="notifications/tools/list_changed")

    def hang(self, id: object, arguments: dict[str, object], token: object) -> None:
        pass

    def die(self, id: object, arguments: dict[str, object], token: object) -> None:
        os._exit(3)

    def half(self, id: object, arguments: dict[str, object], token: object) -> None:
        sys.stdout.write('{"jsonrpc": "2.0", "id": 5, "resu')
        sys.stdout.flush()
        os._exit(0)

    def noise(self, id: object, arguments: dict[str, object], token: object) -> None:
        print("what is meant for a person", flush=True)
        text(id, "quiet")

    def wrong(self, id: object, arguments: dict[str, object], token: object) -> None:
        say(id=id, result=5)

    def long(self, id: object, arguments: dict[str, object], token: object) -> None:
        text(id, "x" * int(arguments["bytes"]))

    def flood(self, id: object, arguments: dict[str, object], token: object) -> None:
        for number in range(5_000):
            print(f"line {number} \x1b[31m", file=sys.stderr)
        text(id, "flooded")

    def gush(self, id: object, arguments: dict[str, object], token: object) -> None:
        for _ in range(int(arguments["events"])):
            progress(token, "x" * 50_000)
        text(id, "gushed")

    def orphan(self, id: object, arguments: dict[str, object], token: object) -> None:
        left = subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL)
        text(id, left.pid)

    def makes(self, id: object, arguments: dict[str, object], token: object) -> None:
        """Make code as JavaScript's engines do, and run a file as package runners do."""
        rights = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
        mmap.mmap(-1, mmap.PAGESIZE, prot=rights).close()
        kept = os.path.join(os.environ["HOME"], "kept")
        with open(os.open(kept, os.O_CREAT | os.O_WRONLY, 0o700), "w") as file:
            file.write("#!/bin/sh\necho it ran\n")
        text(id, subprocess.run([kept], stdin=subprocess.DEVNULL, stdout=-1, text=True).stdout)

    def stubborn(self, id: object, arguments: dict[str, object], token: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        text(id, os.getpid())
        for _ in range(6_000):
            time.sleep(0.1)


def main() -> None:
    if "--fail" in sys.argv:
        sys.exit(1)
    program = Program()
    for line in sys.stdin:
        if "--silent" not in sys.argv:
            program.heard(json.loads(line))


if __name__ == "__main__":
    main()
