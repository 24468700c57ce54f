"""The machine: processes, sockets, the model cache, git, files, SQLite.

This room may touch everything, and is the only one that does. It decides nothing, and `wiring` alone imports
it. Weights have rooms of their own in it: `cache` looks at them, `hub` brings them, `memory` measures them,
`conversion` makes them, `cold` moves them away and back, with the file protocols of `durable`; `supply` puts these
together.
"""
