"""The small certificate authority: it signs what it was told, and keeps a log."""
