"""Talking to the loop that is running: a unix socket in the state directory, one JSON object a line.

The one who listens imports the engine and asyncio, the one who asks neither.
"""
