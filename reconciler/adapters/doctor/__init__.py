"""Looking at a machine for what may be wrong with it: nothing is changed, and what is made for a trial is removed."""
