"""What backends say about their programs."""
