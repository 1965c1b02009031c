"""Sockets and TLS: listeners, connections, pools. asyncio lives here."""
