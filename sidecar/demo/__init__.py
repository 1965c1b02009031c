"""The demo: a real MCP server of files, a mesh around it, and a script of calls."""
