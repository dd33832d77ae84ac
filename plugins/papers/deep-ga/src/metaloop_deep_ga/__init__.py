"""Deep Neuroevolution: genetic algorithms (Petroski Such et al. 2017) for metaloop."""
