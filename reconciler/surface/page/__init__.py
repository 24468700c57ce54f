"""The status page of a watch: one document of everything that is known, and the read-only listener that shows it.

`document` and what renders it are pure; `listening` alone knows HTTP. Nothing here changes anything, and nothing is
rendered while nobody asks.
"""
