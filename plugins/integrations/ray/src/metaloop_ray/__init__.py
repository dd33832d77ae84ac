"""Independent work on a Ray cluster."""
