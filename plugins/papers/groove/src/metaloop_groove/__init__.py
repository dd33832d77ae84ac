"""Discovering general RL algorithms with adversarial environment design (Jackson et al. 2023) for metaloop."""
