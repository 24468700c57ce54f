"""What one sequence costs in key/value cache, by its length."""

from typing import Final

from .base import noun

STEP: Final = 256
"""Tokens by which a cache grows (mlx-lm 0.32.2, `KVCache.step`)."""
PREFILL_STEP: Final = 2_048
"""Tokens of a prompt that are read at a time when nothing else is said (mlx_lm.server 0.32.2)."""


@noun
class Window:
    """Layers that keep a bounded number of tokens: sliding or chunked attention."""

    per_token: int
    """Bytes of one token, all layers of this window together."""
    tokens: int
    """How many tokens are kept; while a prompt is read, one step of it on top, but for one token."""


@noun
class CacheCost:
    """Bytes of cache of one sequence: a part that grows with it, parts that stop growing, and a constant."""

    per_token: int = 0
    windows: tuple[Window, ...] = ()
    fixed: int = 0
    exact: bool = False
    """Whether it was read off the built model; otherwise a formula over its configuration, which is an upper bound."""

    def at(self, tokens: int, prefill_step: int = PREFILL_STEP) -> int:
        """Bytes for a sequence of `tokens`, as they are allocated."""
        length = _whole_steps(tokens)
        capped = (w.per_token * min(length, w.tokens + prefill_step - 1) for w in self.windows)
        return self.fixed + self.per_token * length + sum(capped)


def _whole_steps(tokens: int) -> int:
    return -(-tokens // STEP) * STEP
