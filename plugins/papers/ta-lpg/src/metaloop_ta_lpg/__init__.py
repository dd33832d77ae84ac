"""Discovering temporally-aware reinforcement learning algorithms (Jackson, Lu et al. 2024) for metaloop."""
