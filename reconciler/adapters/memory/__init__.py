"""What a model takes in memory: by a formula over its configuration, or measured in a child."""
