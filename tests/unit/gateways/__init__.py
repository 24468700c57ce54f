"""Tables for the writers of gateway files."""
