"""Attacks on the rules about MCP, as data; `test_attacks` runs them."""
