"""Small scripts that are run by path, often by another interpreter than ours.

A script of this room is one file and uses the standard library alone, or the one runtime in whose environment it is
run. It touches what its arguments name and nothing else. Nothing imports these modules but the demo and tests.
"""
