"""What an operator asks a running sidecar: health, numbers, state."""
