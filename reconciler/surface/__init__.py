"""What a person or a script sees: command line, rendering, status page.

This room may touch the terminal and the socket that it listens on. It asks the rooms below and shows their
answers; what it needs of the machine is handed to it by `wiring`, which it does not import.
"""
