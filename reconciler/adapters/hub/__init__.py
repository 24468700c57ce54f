"""Asking a model hub and downloading from it: a child does it, and is the only one that sees a token."""
