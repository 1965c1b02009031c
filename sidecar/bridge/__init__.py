"""The stdio bridge: programs that speak MCP over pipes, as a server like any other."""
