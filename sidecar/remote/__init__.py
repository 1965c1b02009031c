"""Our own clients: what a sidecar fetches from elsewhere."""
