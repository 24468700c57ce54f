"""What an examination thinks of what it has seen: pure, one function a check."""
