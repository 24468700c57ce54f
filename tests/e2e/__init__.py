"""Real model servers on tiny real models, from the first byte on the disk to the last of an answer."""
