"""Optimizing NOTEARS objectives via topological swaps (Deng et al. 2023) for metaloop."""
