"""What holds for every world: drawn desired states, drawn machines, drawn luck."""
