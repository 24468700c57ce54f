"""The composition root: the one room that knows every other, and puts them together for a command.

It may import everything and decides nothing.
"""

from .composing import compose

__all__ = ["compose"]
