"""Learners: how one adapts to a task, given meta-parameters."""
