"""What an examination thinks of what it has seen."""
