"""sidecar: one process beside each MCP server.

It gives the server an identity, says who may call which tool, reads what
passes, keeps the way to the server healthy, and can explain every decision.
`ARCHITECTURE.md` is the map; start reading at `exchange.py`.
"""

from __future__ import annotations

__version__ = "0.1.0"
