"""One in-memory host behind all ports, with virtual time, faults, and rules that are checked at every effect."""
