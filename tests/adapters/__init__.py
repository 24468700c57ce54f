"""The real adapters on real files, sockets and processes; what they share is in `conftest`."""
