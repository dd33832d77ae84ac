"""Generic tasks, learners and meta-optimizers for metaloop."""
