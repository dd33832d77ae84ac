"""What `test_ranks.py` has torchrun run, as `-m ...ranked FOLDER main`, and parts of a plugin `ranked`."""

from __future__ import annotations

import atexit
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metaloop import Context, Experiment, Pipeline
from metaloop.key import Key
from metaloop.objective import Objective
from metaloop.outcome import Outcome
from metaloop.store import Run
from metaloop.sweep import Sweep
from metaloop.testing.toys import Lives, NoisyDescent, Quadratics, Revisits, Text, Words

from .methods import Anneal, Mirrored, Rollout, Search, Sgd, State, Theta, Windows, small
from .parts import Diary, Drift, Levels

EXPERIMENTS: dict[str, Experiment] = {
    "gradient": small(task_batch=5, eval_tasks=3, eval_every=2),
    "chunks of a noisy curriculum": small(
        tasks=Revisits(inner=Quadratics()), learner=NoisyDescent(), task_batch=5, task_chunk=2
    ),
    "fewer tasks than ranks": small(task_batch=1, precision="float64"),
    "windows": small(learner=Lives(steps=4), meta_optimizer=Windows(), task_batch=5),
    "antithetic windows": small(tasks=Levels(), learner=Drift(), meta_optimizer=Mirrored(), task_batch=5),
    "population": small(learner=Lives(steps=4), meta_optimizer=Search(population=5)),
    "program": small(tasks=Words(), learner=Text(steps=2), meta_optimizer=Anneal()),
}


class Faulty(Sgd):
    """Breaks on rank 1 in the third step, where the others are about to add up gradients."""

    def step(self, theta: Theta, state: State, objective: Objective[Theta], key: Key) -> tuple[Theta, State, Outcome]:
        if state.get("steps", 0) == 2 and os.environ.get("RANK") == "1":
            raise ZeroDivisionError("no luck")
        theta, new, out = super().step(theta, state, objective, key)
        return theta, new | {"steps": state.get("steps", 0) + 1}, out


class Slow(Sgd):
    """Takes a while over each step."""

    def step(self, theta: Theta, state: State, objective: Objective[Theta], key: Key) -> tuple[Theta, State, Outcome]:
        time.sleep(0.1)
        return super().step(theta, state, objective, key)


def faulty(profile: str) -> Experiment:
    """A job that breaks."""
    return small(name="faulty", meta_optimizer=Faulty(), checkpoint_every=1)


def slow(profile: str) -> Experiment:
    """A job that can be stopped."""
    return small(name="slow", meta_optimizer=Slow(), steps=40, task_batch=5, checkpoint_every=1)


def look(context: Context) -> Mapping[str, Any]:
    """A stage that is run once, and an experiment in it."""
    with (context.pipeline.path / "looks").open("a") as file:
        file.write("x")
    return {"loss": context.experiment("inner", small()).summary["loss"]}


def pipeline() -> Pipeline:
    """Experiments and a stage."""
    return Pipeline(stages={"one": small(task_batch=5), "look": look, "two": small(task_batch=2)}, device="cpu")


def plain(theta: Any) -> Any:
    """A theta as JSON that keeps every bit."""
    return {name: value.tolist() for name, value in theta.items()} if isinstance(theta, Mapping) else theta


def failure(run: Any) -> str:
    """What a call raises."""
    try:
        run()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def main(folder: Path) -> None:
    """Run everything; each rank writes what it found."""
    begun: dict[str, str] = json.loads((folder / "begun.json").read_text())
    found: dict[str, Any] = {"broken": failure(lambda: faulty("cpu").run(quiet=True))}
    for name, experiment in EXPERIMENTS.items():
        result = experiment.run(quiet=True)
        found[name] = {"theta": plain(result.theta), "path": str(result.path), "spent": result.progress.spent}
        half = experiment.run(until=3, quiet=True)
        other = experiment.run(run=Run(Path(begun[name])), quiet=True)
        found[name] |= {"half": str(half.path), "resumed": plain(other.theta)}
    piped = pipeline().run(quiet=True)
    found["pipeline"] = {"path": str(piped.path), "look": dict(piped["look"]), "two": plain(piped["two"].theta)}
    found["mistakes"] = [
        failure(lambda: small(meta_optimizer=None, steps=None).run(quiet=True)),
        failure(lambda: Sweep(base=small()).run(quiet=True)),
        failure(lambda: small(tasks=Words(), learner=Diary(), meta_optimizer=Rollout()).run(quiet=True)),
    ]
    (folder / f"{os.environ['RANK']}.json").write_text(json.dumps(found))


def end(folder: Path) -> None:
    """Run one experiment; each rank writes which threads are left when the ranks have taken leave of each other."""

    def threads() -> None:
        names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
        (folder / f"threads-{os.environ['RANK']}.json").write_text(json.dumps(names))

    atexit.register(threads)  # before the ranks meet: called after what they register then
    EXPERIMENTS["gradient"].run(quiet=True)


if __name__ == "__main__":
    {"main": main, "end": end}[sys.argv[2]](Path(sys.argv[1]))
