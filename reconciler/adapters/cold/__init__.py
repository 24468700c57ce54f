"""Cold storage: moving a repository to a volume of this or another host, and back."""
