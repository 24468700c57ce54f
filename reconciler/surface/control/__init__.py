"""Talking to the loop that is running: a unix socket in the state directory, one JSON object a line.

`asking` needs neither the engine nor an event loop, `listening` is part of a loop that runs.
"""
