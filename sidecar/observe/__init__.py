"""What happened: the record of an exchange, its log line and its numbers."""
