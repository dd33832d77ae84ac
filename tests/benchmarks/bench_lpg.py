"""Agent-environment steps per second of LPG's whole meta-step, beside GROOVE's own JAX code at the same sizes.

Meta-gradients: five updates and one more segment of every life, a gradient through them, Adam; what is counted are
those environment steps. Evolution: whole lives of every candidate and its judging; the peer's lives are all equally
long, and so are ours here. Both judge agents by episodes as they do in training, which is timed but not counted.

    python tests/benchmarks/bench_lpg.py --groove PYTHON --repository FOLDER
"""

from __future__ import annotations

from typing import Any, Literal

from common import Answering, Comparison, arguments, compare, report
from metaloop import Experiment
from metaloop.experiment import Progress
from metaloop_basics.meta_optimizers.evolution import EvolutionStrategy
from metaloop_basics.meta_optimizers.gradient import TruncatedGradient
from metaloop_rl.envs.families import grid_family
from metaloop_rl.learners.lpg import Lpg
from metaloop_rl.learners.lpg_network import LpgNetwork
from metaloop_rl.tasks import Environments

How = Literal["gradient", "evolution"]
LIFETIME, SEGMENT, WINDOW = 250, 20, 5


class Ours:
    """Meta-steps of an experiment."""

    def __init__(self, how: How, agents: int, workers: int, hidden: int, *, compiled: bool = False) -> None:
        gradient = how == "gradient"
        meta = TruncatedGradient(window=WINDOW, measure="end", lr=1e-4)
        pairs = EvolutionStrategy(population=2 * agents, sigma=0.1, shaping="pair_rank", task_per_pair=True)
        self.experiment = Experiment(
            tasks=Environments(env=grid_family("small").but(view="index"), lifetimes=(LIFETIME, LIFETIME)),
            learner=Lpg(
                workers=workers,
                episodes=4 if gradient else workers,  # the peer's numbers
                network=LpgNetwork(hidden=hidden, time_inputs="relative"),
                critic=gradient,
                compile_acting=compiled,
            ),
            meta_optimizer=meta if gradient else pairs,
            task_batch=agents,
            steps=1,
        )
        self.progress: Progress = self.experiment.begin()

    def __call__(self) -> None:
        self.progress = self.experiment.advance(self.progress)


def environment_steps(how: How, agents: int, workers: int) -> int:
    """Of one meta-step, judging left out."""
    return SEGMENT * workers * agents * ((WINDOW + 1) if how == "gradient" else 2 * LIFETIME)


def main() -> None:
    """Compare, and print."""
    more = {
        "groove": "an interpreter that has jax 0.4.13, flax 0.6.11, evosax 0.1.4 and gymnax 0.0.6",
        "repository": "a clone of EmptyJackson/groove",
        "sizes": "agents,workers,units of the GRU (default 32,16,64)",
        "only": "gradient or evolution (default: both)",
    }
    given = arguments(__doc__ or "", more, rounds=5)
    agents, workers, hidden = map(int, (given.sizes or "32,16,64").split(","))
    rows: list[Comparison] = []
    facts: dict[str, Any] = {}
    hows: tuple[How, ...] = ("gradient", "evolution")
    for how in (how for how in hows if given.only in ("", how)):
        ours, count = Ours(how, agents, workers, hidden), environment_steps(how, agents, workers)
        name = f"{how}: {agents} agents, {workers} workers, {hidden} units"
        peer = None
        if given.groove:
            peer = Answering(
                given.groove, "groove_peer.py", given.repository, agents, workers, hidden, given.threads, how
            )
            facts[f"{how}, peer"] = peer.version
        other = ("GROOVE (JAX)", peer) if peer else ("metaloop again", ours)
        row = compare(name, ("metaloop", ours), other, rounds=given.rounds, warmup=1)
        if peer:
            peer.close()
        rows.append(row)
        facts[f"{how}: steps/s, metaloop"] = round(1e3 * count / row.first_ms)
        facts[f"{how}: steps/s, {row.second}"] = round(1e3 * count / row.second_ms)
    report("LPG's meta-step", rows, facts, given)


if __name__ == "__main__":
    main()
