"""Mirror Descent Policy Optimization (Tomar et al. 2022) for metaloop."""
