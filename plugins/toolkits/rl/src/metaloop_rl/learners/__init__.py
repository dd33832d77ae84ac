"""Learners that act: policies, and how they improve inside one life."""
