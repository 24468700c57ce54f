"""Following a git repository: which commit a ref names, what is in it, and what speaks against taking it."""
