"""metaloop: a microkernel for meta-learning research."""
