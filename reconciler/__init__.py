"""Keep a Mac serving exactly the MLX models that a git-tracked file declares."""

__version__ = "0.1.0"
