"""The tests; which folder holds what is in docs/architecture.md, section 13."""
