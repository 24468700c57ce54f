"""Tables for the pure parts of the adapters."""
