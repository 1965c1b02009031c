"""Bytes to HTTP and back: heads and bodies, judged by h11. Pure."""
