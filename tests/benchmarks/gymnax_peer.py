"""Steps gymnax's environments on the CPU when asked: a script for an interpreter that has gymnax and JAX.

Arguments: the environment, copies, steps, threads. Each line on standard input is one call, answered with one line.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import version


def main() -> None:
    """Compile once, then serve."""
    name, copies, steps, threads = sys.argv[1], *map(int, sys.argv[2:5])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    os.environ["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'}"
    os.environ["JAX_PLATFORMS"] = "cpu"

    import gymnax
    import jax
    import jax.numpy as jnp

    env, parameters = gymnax.make(name)
    space = env.action_space(parameters)
    whole = hasattr(space, "n")
    shape = (steps, copies) if whole else (steps, copies, *space.shape)
    root = jax.random.PRNGKey(0)
    actions = jax.random.randint(root, shape, 0, space.n) if whole else jax.random.uniform(root, shape, minval=-1.0)

    @jax.jit
    def roll(key, state):
        def one(state, row):
            key, action = row
            found = jax.vmap(env.step, (0, 0, 0, None))(jax.random.split(key, copies), state, action, parameters)
            return found[1], found[2].sum() + jnp.sum(found[0])

        state, kept = jax.lax.scan(one, state, (jax.random.split(key, steps), actions))
        return state, kept.sum()

    _, state = jax.vmap(env.reset, (0, None))(jax.random.split(root, copies), parameters)
    state, _ = jax.block_until_ready(roll(root, state))
    print(f"gymnax {version('gymnax')}, jax {version('jax')}", flush=True)
    for line in sys.stdin:
        state, _ = jax.block_until_ready(roll(jax.random.PRNGKey(int(line)), state))
        print("done", flush=True)


if __name__ == "__main__":
    main()
