"""What a body says: patterns of prompt injection, found in one pass. Pure."""
