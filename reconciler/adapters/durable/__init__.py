"""Files that survive a crash: one protocol of requests, and the steps that moves are made of."""
