"""Tables for the scripts that are run by path."""
