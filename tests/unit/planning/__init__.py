"""The planning room: facts in, targets, verdicts, actions and words about them out."""
