"""The server of `sdk_server` as a program that speaks over its standard streams."""

from __future__ import annotations

from sdk_server import make_server

if __name__ == "__main__":
    make_server().run()
