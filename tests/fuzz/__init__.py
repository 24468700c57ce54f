"""Documents as nobody would write them: every one is accepted or refused, none ends in a traceback."""
