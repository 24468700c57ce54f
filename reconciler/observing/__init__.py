"""Ask every port once and put the answers into one observed state.

This room may read, and only through ports. It never changes what it looks at, and an answer that did not come
is recorded as unknown with its reason, never as absence.
"""
