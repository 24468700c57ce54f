"""The decisions: resolve, diff, plan, forecast, status.

This room may touch nothing. The same values in give the same plan out; the time is one of the values.
"""
