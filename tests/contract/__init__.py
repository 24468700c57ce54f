"""One suite for the in-memory world and for the real machine, so that the world cannot drift from it."""
