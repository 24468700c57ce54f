"""Running a converter, judging its result, and publishing it whole."""
