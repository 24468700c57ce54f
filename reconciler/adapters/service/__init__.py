"""The service managers of the two systems, and what the watch is told to them as."""
