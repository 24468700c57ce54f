"""From text to a desired state, or to errors with line numbers; importers; edits that keep comments.

This room may touch nothing but the text it is given. Files and commits are read by a port; here their bytes
become a `DesiredState`, or a list of everything that is wrong with them.
"""
