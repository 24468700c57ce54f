"""The loop: one writer, its jobs, the ledger and what wakes it.

This room may start tasks and wait, with time taken from a port. It carries out plans and makes none; whatever
reaches the host goes through an action and the ports that the action was given.
"""
