"""Takes meta-steps of GROOVE's own JAX code on the CPU when asked: a script for an interpreter that has its packages.

Arguments: the repository's folder, agents, workers, units of the GRU, threads, `gradient` or `evolution`. Each line on
standard input is one meta-step, answered with one line.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import version


def main() -> None:
    """Compile once, then serve."""
    folder, agents, workers, hidden, threads, how = sys.argv[1:7]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-int(threads) :])
    os.environ["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={'true' if int(threads) > 1 else 'false'}"
    os.environ["JAX_PLATFORMS"] = "cpu"
    sys.path.insert(0, folder)
    answers, sys.stdout = sys.stdout, sys.stderr  # the peer's packages print

    import jax
    from environments.level_sampler import LevelSampler
    from experiments.parse_args import parse_args
    from meta.meta import create_lpg_train_state, make_lpg_train_step

    flags = ["--env_mode", "small", "--num_agents", agents, "--env_workers", workers]
    flags += ["--lpg_gru_width", hidden, "--num_mini_batches", "1", "--lifetime_conditioning"]
    args = parse_args(flags + ["--use_es"] * (how == "evolution"))
    first, second, third = jax.random.split(jax.random.PRNGKey(0), 3)
    state, sampler = create_lpg_train_state(first, args), LevelSampler(args)
    buffer, lives, critics = sampler.initial_sample(second, None, int(agents), not args.use_es)
    train = make_lpg_train_step(args, sampler)

    @jax.jit
    def step(key, state, lives, critics):
        one, two = jax.random.split(key)
        state, lives, critics, metrics = train(
            rng=one, lpg_train_state=state, agent_states=lives, value_critic_states=critics
        )
        _, lives, critics = sampler.sample(two, buffer, lives, critics)
        return state, lives, critics, metrics

    carry = jax.block_until_ready(step(third, state, lives, critics))[:3]
    episodes = sampler.max_rollout_len
    print(f"jax {version('jax')}, lives of {sampler.max_lifetime}, episodes of {episodes}", file=answers, flush=True)
    for line in sys.stdin:
        carry = jax.block_until_ready(step(jax.random.PRNGKey(int(line)), *carry))[:3]
        print("done", file=answers, flush=True)


if __name__ == "__main__":
    main()
