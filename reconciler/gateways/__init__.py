"""How one gateway's file says "these routes": text in, text out, one file for each gateway.

This room may touch nothing but the text it is given. It splices, so that every byte that is not ours stays as
it was. The files do not know each other; what they share is in `base`.
"""
