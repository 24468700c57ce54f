"""The command line; a command is one module, imported when it is run."""
