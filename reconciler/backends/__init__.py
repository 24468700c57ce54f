"""How one kind of server program is commanded, recognised and judged: one file for each kind.

This room may touch nothing. It turns a desired server into an argument vector and an answer into a judgement,
and runs neither. The files do not know each other; what they share is in `base`.
"""
