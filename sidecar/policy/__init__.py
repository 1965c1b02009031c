"""May it happen: a call goes in, a verdict comes out. Pure."""
