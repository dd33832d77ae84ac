"""Reinforcement learning for metaloop."""
