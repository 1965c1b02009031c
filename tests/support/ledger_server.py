"""A small MCP server to be killed, run as a script: `ledger_server.py PORT LEDGER`.

Each call that writes appends its key to the ledger before it is answered, so that what was
done twice shows. A tool whose name ends in `stream` answers with events.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

EVENT_GAP = 0.002  # seconds between events


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ledger: int) -> None:
    """Answer one request after the other."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            message = json.loads(await reader.readexactly(_length(head)))
            await answer(message, writer, ledger)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def answer(message: dict, writer: asyncio.StreamWriter, ledger: int) -> None:
    params = message.get("params", {})
    name, given = params.get("name", ""), params.get("arguments", {})
    if name.startswith("write"):
        os.write(ledger, f"{given['key']}\n".encode())
    said = {"jsonrpc": "2.0", "id": message["id"], "result": {"key": given.get("key", "")}}
    if not name.endswith("stream"):
        await asyncio.sleep(0.001)
        writer.write(_head("application/json", f"content-length: {len(_bytes(said))}"))
        writer.write(_bytes(said))
        return
    writer.write(_head("text/event-stream", "transfer-encoding: chunked"))
    for step in ({"jsonrpc": "2.0", "method": "notifications/progress", "params": {}}, said):
        await asyncio.sleep(EVENT_GAP)
        event = b"data: " + _bytes(step) + b"\n\n"
        writer.write(b"%x\r\n%b\r\n" % (len(event), event))
    writer.write(b"0\r\n\r\n")


def _head(kind: str, line: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{line}\r\n\r\n".encode()


def _bytes(message: dict) -> bytes:
    return json.dumps(message).encode()


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


async def main(port: int, path: str) -> None:
    ledger = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    server = await asyncio.start_server(
        lambda reader, writer: serve(reader, writer, ledger), "127.0.0.1", port
    )
    print("listening", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
