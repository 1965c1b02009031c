"""Bytes to MCP and back: messages, methods, event streams, edits. Pure."""
