"""A sandbox for code that nobody has read."""
