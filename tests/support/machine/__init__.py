"""What an administrator does on a machine with systemd: run inside of it, by a unit of its own."""
