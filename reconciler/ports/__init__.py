"""The questions and requests that may be put to a machine, as Protocols.

This room may touch nothing. It says what can be asked and what an answer looks like, in nouns of `model`; who
answers (`adapters` on a real host, an in-memory world in the tests) is not its business.
"""
