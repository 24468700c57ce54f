"""The verbs: when each arises, what it changes, how it is done. One file for each verb.

`propose` and `simulate` are pure. `perform` may touch the host, but only through the ports that are handed to
it, so this room imports nothing that could reach a machine by itself. The verbs do not know each other; what
they share is in `base`.
"""
