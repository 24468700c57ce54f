"""What the logs of the server programs say about failures; imported only when there is a log to be read."""
