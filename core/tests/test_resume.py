"""A run that was stopped and resumed is the uninterrupted run, bit for bit."""

from __future__ import annotations

import errno
import itertools
import os
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from metaloop import Context, Experiment, Pipeline, disk, tree
from metaloop.errors import MetaloopError, UserError
from metaloop.key import Key
from metaloop.saving import load_progress
from metaloop.store import list_runs
from metaloop.testing.toys import (
    Climb,
    Descent,
    Fit,
    Guess,
    Lines,
    Lives,
    NoisyDescent,
    Quadratics,
    Revisits,
    Text,
    Words,
)
from torch import Tensor

from .methods import Anneal, Mirrored, Rollout, Search, Sgd, Windows
from .parts import Archive, Diary, Drift, Explorer, InPlace, Levels


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("METALOOP_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def build(**settings: Any) -> Experiment:
    return Experiment(**({"steps": 8, "task_batch": 4, "seed": 3, "device": "cpu"} | settings))


EXPERIMENTS: dict[str, Experiment] = {
    "gradient": build(tasks=Lines(), learner=Fit(), meta_optimizer=Sgd(), eval_tasks=3, eval_every=3),
    "float64": build(tasks=Quadratics(), learner=NoisyDescent(), meta_optimizer=Sgd(), precision="float64"),
    "bfloat16": build(tasks=Lines(), learner=Fit(), meta_optimizer=Sgd(), precision="bfloat16"),
    "population": build(tasks=Quadratics(), learner=Lives(steps=4), meta_optimizer=Search()),
    "not stackable": build(tasks=Quadratics(), learner=Guess(), meta_optimizer=Search()),
    "truncated": build(tasks=Quadratics(), learner=Lives(steps=4), meta_optimizer=Windows()),
    "antithetic windows": build(tasks=Levels(), learner=Drift(), meta_optimizer=Mirrored()),
    "in place": build(tasks=Levels(), learner=InPlace(varied=True), meta_optimizer=Windows()),
    "curriculum that grows": build(tasks=Levels(), learner=Drift(), meta_optimizer=Windows(window=1), eval_tasks=2),
    "curriculum of whole lives": build(tasks=Levels(), learner=Drift(), meta_optimizer=Sgd(), eval_tasks=2),
    "replayed levels": build(tasks=Revisits(inner=Quadratics()), learner=Lives(), meta_optimizer=Search()),
    "tensors, no meta-optimizer": build(tasks=Levels(), learner=Drift(), log_every=3),
    "objects, no meta-optimizer": build(tasks=Words(), learner=Climb(steps=3), log_every=2),
    "live beside growing values": build(tasks=Words(), learner=Diary(varied=True)),
    "live object for the batch": build(tasks=Levels(), learner=Explorer(steps=3)),
    "program": build(tasks=Words(), learner=Text(steps=2), meta_optimizer=Anneal()),
    "live in the meta-state": build(tasks=Words(), learner=Diary(varied=True), meta_optimizer=Rollout()),
    "live in the meta-state, for the batch": build(tasks=Levels(), learner=Explorer(steps=3), meta_optimizer=Rollout()),
    "budget": build(tasks=Lines(), learner=Fit(), meta_optimizer=Sgd(), max_evaluations=23, eval_tasks=2),
    "no steps": build(tasks=Lines(), learner=Fit(), meta_optimizer=Sgd(), steps=0, eval_tasks=2),
}
each_experiment = pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=EXPERIMENTS.keys())


def exact(value: Any) -> Any:
    """A tree as plain values in which every bit counts."""
    if isinstance(value, Tensor):
        return str(value.dtype), tuple(value.shape), value.detach().contiguous().view(-1).numpy().tobytes()
    if isinstance(value, Key):
        return exact(value.data)
    if isinstance(value, dict):
        return {name: exact(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [type(value).__name__, *map(exact, value)]
    if hasattr(value, "state_dict"):
        return type(value).__name__, exact(value.state_dict())
    return value


def final(result: Any) -> Any:
    """Everything that must be equal: progress but for the last outcome, history but for the times."""
    history = [{**row, "time": None} for row in result.history]
    return exact(result.progress._replace(outcome=None)), history


@each_experiment
@pytest.mark.parametrize("stops", [(4,), (1, 2, 3, 4, 5, 6, 7), (0, 5)], ids=["half", "every step", "at once"])
def test_resumed_is_uninterrupted(experiment: Experiment, stops: tuple[int, ...]) -> None:
    whole = experiment.run(quiet=True)
    result = experiment.run(until=stops[0], quiet=True)
    for until in (*stops[1:], None):
        # a fresh object with nothing cached, as in another process
        again = Experiment.model_validate({name: getattr(experiment, name) for name in type(experiment).model_fields})
        result = again.run(until=until, run=result.run, quiet=True)
    assert final(result) == final(whole)
    assert result.run.status == "finished"


@each_experiment
def test_a_run_cut_short_between_checkpoints_is_taken_back(experiment: Experiment) -> None:
    """The process dies with rows behind its newest checkpoint, the last of them torn."""
    experiment = experiment.but(checkpoint_every=3)
    whole = experiment.run(quiet=True)
    if not experiment.steps:
        return
    killed = experiment.run(until=5, quiet=True)
    newest = sorted((killed.path / "checkpoints").iterdir())[-1]
    newest.rename(killed.path / "gone")
    with (killed.path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 6, "lo')
    assert final(experiment.run(run=killed.run, quiet=True)) == final(whole)


def test_a_damaged_checkpoint_is_noticed_and_the_one_before_it_used() -> None:
    experiment = EXPERIMENTS["truncated"].but(checkpoint_every=2)
    whole = experiment.run(quiet=True)
    stopped = experiment.run(until=6, quiet=True)
    newest = stopped.path / "checkpoints" / "000006" / "tensors.safetensors"
    newest.write_bytes(newest.read_bytes()[:-7])
    with pytest.warns(UserWarning, match=r"000006 is damaged.*the checkpoint before it"):
        resumed = experiment.run(run=stopped.run, quiet=True)
    assert final(resumed) == final(whole)
    assert [int(path.name) for path in sorted((stopped.path / "checkpoints").iterdir())] == [6, 8]


def test_a_live_object_is_told_its_state_and_not_shared() -> None:
    experiment = EXPERIMENTS["live object for the batch"]
    stopped = experiment.run(until=2, quiet=True)
    loaded = load_progress(stopped.path / "checkpoints", experiment)
    assert loaded is not None
    archive = loaded.carry.state["archive"]
    assert isinstance(archive, Archive)
    assert archive.found == stopped.progress.carry.state["archive"].found
    assert len(archive.found) == 2
    assert loaded.carry.state["note"] == "2 found"


def test_more_steps_than_planned_go_on_from_the_end() -> None:
    experiment = EXPERIMENTS["population"]
    longer = experiment.but(steps=12)
    result = longer.run(run=experiment.run(quiet=True).run, quiet=True)
    assert final(result) == final(longer.run(quiet=True))


def test_every_step_of_a_resumed_run_is_logged_once() -> None:
    experiment = EXPERIMENTS["gradient"].but(steps=7, eval_every=7, checkpoint_every=1)
    run = experiment.run(until=6, quiet=True).run
    before = run.history()
    result = experiment.run(run=run, quiet=True)
    assert result.history[: len(before)] == before
    assert [row["step"] for row in result.history] == [1, 2, 3, 4, 5, 6, 7, 7]
    assert sum("eval/loss" in row for row in result.history) == 1


def test_a_kill_between_the_last_evaluation_and_its_checkpoint_does_not_repeat_it() -> None:
    experiment = EXPERIMENTS["gradient"].but(steps=6, eval_every=None, checkpoint_every=1)
    whole = experiment.run(quiet=True)

    class Killed(BaseException):
        pass

    def dies(folder: Path, step: int, *args: Any, **kwargs: Any) -> Any:
        if step == 6:
            raise Killed
        return save(folder, step, *args, **kwargs)

    from metaloop import checkpoint

    save = checkpoint.save
    with mock.patch.object(checkpoint, "save", dies), pytest.raises(Killed):
        experiment.run(quiet=True)
    run = list_runs()[0]
    assert any("eval/loss" in row for row in run.history())
    assert final(experiment.run(run=run, quiet=True)) == final(whole)


class Full:
    """The disk is full at the `at`-th operation, which writes half; `lasting`: and from then on."""

    def __init__(self, at: int, lasting: bool) -> None:
        self.at, self.lasting, self.count = at, lasting, 0

    def __call__(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        self.count += 1
        if self.count == self.at or (self.lasting and self.count > self.at):
            if operation is os.write:
                os.write(args[0], args[1][: len(args[1]) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return operation(*args, **kwargs)


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
def test_each_write_of_a_run_fails_once_and_nothing_readable_is_lost(root: Path, lasting: bool) -> None:
    experiment = build(
        tasks=Levels(),
        learner=Drift(),
        meta_optimizer=Windows(),
        steps=4,
        checkpoint_every=2,
        eval_tasks=2,
        eval_every=2,
    )
    whole = experiment.run(quiet=True)
    failures = 0
    for at in itertools.count(1):
        known = set(list_runs())
        fault = Full(at, lasting)
        try:
            with mock.patch.object(disk, "call", fault):
                experiment.run(quiet=True)
        except (OSError, MetaloopError) as error:
            failures += 1
            assert "\n" not in str(error)  # noqa: PT017 (some operations may fail without harm)
            assert "No space left on device" in str(error)  # noqa: PT017
        made = list_runs()
        assert not made.broken
        new = [run for run in made if run not in known]
        assert len(new) <= 1
        for run in new:
            assert all("loss" in row or "eval/loss" in row for row in run.history())
            stored = load_progress(run.path / "checkpoints", experiment)
            if stored is not None:  # what could be read before can be read now
                assert stored.step in (2, 4)
            resumed = experiment.run(run=run, quiet=True)
            assert final(resumed) == final(whole), f"operation {at}"
            assert run.status == "finished"
        if fault.count < at:
            break
    assert failures >= 30
    assert not [path for path in root.iterdir() if path.name.startswith(".")]


def test_each_write_of_a_pipeline_fails_once_and_it_resumes(root: Path) -> None:
    def study(context: Context) -> dict[str, Any]:
        inner = context.experiment("inner", build(tasks=Words(), learner=Climb(steps=2), steps=None, seed=0))
        context.artifact("losses.txt", lambda path: path.write_text(str(inner.summary["loss"])))
        return {"loss": inner.summary["loss"], "before": context.results["one"].summary["loss"]}

    one = build(tasks=Levels(), learner=Drift(), meta_optimizer=Windows(), steps=2, seed=0)
    pipeline = Pipeline(stages={"one": one, "study": study}, device="cpu")
    whole = pipeline.run(quiet=True)
    failures = 0
    for at in itertools.count(1):
        known = set(list_runs())
        fault = Full(at, lasting=False)
        try:
            with mock.patch.object(disk, "call", fault):
                pipeline.run(quiet=True)
        except (OSError, MetaloopError) as error:
            failures += 1
            assert "No space left on device" in str(error)  # noqa: PT017 (some operations may fail without harm)
        made = list_runs()
        assert not made.broken
        for run in [run for run in made if run not in known]:
            result = pipeline.run(run=run, quiet=True)
            assert result["study"] == whole["study"], f"operation {at}"
            assert final(result["one"]) == final(whole["one"])
            assert {part.status for part in [run, *run.children()]} == {"finished"}
        if fault.count < at:
            break
    assert failures >= 60


def test_two_holders_cannot_run_one_run() -> None:
    experiment = EXPERIMENTS["gradient"]
    run = experiment.run(until=2, quiet=True).run
    with run.lock(), pytest.raises(UserError, match="in use"):
        experiment.run(run=run, quiet=True)
    assert experiment.run(run=run, quiet=True).run.status == "finished"


def test_progress_does_not_share_memory_with_what_was_saved() -> None:
    """Going on from a progress that was saved does not reach into the checkpoint, nor the other way round."""
    experiment = EXPERIMENTS["in place"]
    stopped = experiment.run(until=4, quiet=True)
    one = load_progress(stopped.path / "checkpoints", experiment)
    assert one is not None
    before = exact(one._replace(outcome=None))
    experiment.advance(one)
    assert exact(one._replace(outcome=None)) == before
    leaves = [leaf for leaf in tree.leaves(one) if isinstance(leaf, Tensor)]
    assert not any(leaf.requires_grad for leaf in leaves)
    assert torch.get_default_dtype() == torch.float32
    assert Descent().steps == 3
