"""Tests that build environments or take minutes."""
