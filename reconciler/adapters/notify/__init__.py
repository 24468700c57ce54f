"""Bringing notifications to whoever the host file names: a command of the owner, or an address on the web."""
