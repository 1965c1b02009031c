"""Where a call may go: endpoints, ejection, balancing. Pure, and told the time."""
