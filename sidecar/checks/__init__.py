"""What `sidecar check` looks at: each check says what it found, and what to do where it is bad."""
