"""The machine: processes, sockets, the model cache, git, files, SQLite.

This room may touch everything, and is the only one that does. It decides nothing, and `wiring` alone imports
it.
"""
