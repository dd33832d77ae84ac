"""Jobs at the gpu profile's shapes for one step, and rules in live games."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from metaloop import Key, Pipeline, UserError
from metaloop.overrides import override
from metaloop_groove import jobs
from metaloop_groove.buffer import LevelBuffer
from metaloop_groove.heldout import held_out
from metaloop_groove.minatar import MinAtar
from metaloop_groove.plugin import SPEC
from metaloop_groove.stages import Standing
from metaloop_rl.learners.lpg import Lpg

from .rule import reinforce


def dry(name: str, tmp_path: Path) -> Any:
    job = next(job for job in SPEC.jobs if job.id == name)
    made: Pipeline = getattr(jobs, job.target.partition(":")[2])("gpu")
    return override(made, [*job.dry]).run(root=tmp_path, quiet=True)


def test_the_main_job_at_the_papers_shapes(tmp_path: Path) -> None:
    result = dry("groove", tmp_path)
    assert {path.name for path in result.run.artifacts()} == {"held-out.png", "training.png"}
    assert result.closing
    found = result.summary["standing"]
    assert set(found) == {"lpg", "groove"}
    assert all(len(row["shares"]) == 2 for row in found.values())
    json.dumps(result.summary)


def test_rules_play_minatar(tmp_path: Path) -> None:
    found = dry("groove/minatar", tmp_path).summary["transfer"]
    assert set(found) == {"lpg", "groove", "A2C", "not trained"}
    assert all(
        math.isfinite(row[game][0]) and row[game][0] >= 0 for row in found.values() for game in ("Breakout", "Asterix")
    )


def test_the_papers_settings() -> None:
    groove = jobs.groove("gpu").stages["groove"]
    learner, buffer, meta = groove.learner, groove.tasks, groove.meta_optimizer
    assert isinstance(learner, Lpg)
    assert isinstance(buffer, LevelBuffer)
    assert (learner.workers, learner.segment, learner.window, learner.network.hidden) == (64, 20, 5, 256)
    assert (learner.regularisers, learner.alpha_y) == ((0.05, 0.001, 0.005, 0.001), 0.5)
    assert (groove.task_batch, groove.steps, meta.lr, meta.window) == (512, 5000, 1e-4, 5)
    assert (buffer.slots, buffer.replay, buffer.transform, buffer.score.antagonist.steps) == (4000, 0.5, "rank", 250)


def test_scores_and_pools_train_a_step_each(tmp_path: Path) -> None:
    """All stages but the last, at the cpu profile's shapes."""
    for made in (jobs.scores("cpu"), jobs.pool("cpu")):
        for name, experiment in made.stages.items():
            if name != "standing":
                short = experiment.learner.but(steps=5, workers=2, segment=3, episodes=1)
                tiny = experiment.but(learner=short, task_batch=2, steps=1, device="cpu")
                if name == "regret":
                    tiny = tiny.but(tasks=jobs.curriculum(short))
                progress = tiny.advance(tiny.begin())
                assert progress.outcome is not None
                assert bool(progress.outcome.fitness.isfinite().all())
                if isinstance(tiny.tasks, LevelBuffer):
                    assert int(progress.family.ready.sum()) == 2  # both lives ended, and were scored


def test_a_rule_written_by_hand_learns_in_a_live_game() -> None:
    learner = jobs.SMALL.but(steps=2, workers=8, episodes=2)
    worlds = MinAtar(game="Breakout", max_steps=30).worlds(2)
    with torch.no_grad():
        out, state = learner.live(reinforce(learner.network), worlds, Key.of(0).split(2))
    assert out.fitness.shape == (2,)
    assert not torch.equal(state.actor.values["head.bias"][0], state.actor.values["head.bias"][1])


def test_an_unknown_stage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'nobody' is no experiment before this stage"):
        Pipeline(stages={"standing": Standing(rules=("nobody",), levels=jobs.GRIDS)}).run(root=tmp_path, quiet=True)


def test_levels_that_tell_nothing_are_no_yardstick() -> None:
    idle = jobs.a2c(jobs.SMALL).but(steps=0, workers=2, episodes=2)
    with pytest.raises(UserError, match="on 0 of 40 levels, and 2 are needed"):
        held_out(jobs.GRIDS, 2, idle, Key.of(0))
