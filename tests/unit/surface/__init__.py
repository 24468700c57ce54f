"""The command line without a machine."""
