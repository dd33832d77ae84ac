"""General-purpose in-context learning by meta-learning transformers (Kirsch et al., 2022) for metaloop."""
