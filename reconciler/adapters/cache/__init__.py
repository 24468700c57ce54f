"""What is on this machine: the model cache, plain folders, conversions, and what was verified of them."""
