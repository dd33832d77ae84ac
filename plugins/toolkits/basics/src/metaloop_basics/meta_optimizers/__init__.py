"""Meta-optimizers: how meta-parameters improve from one outer step to the next."""
