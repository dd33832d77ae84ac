"""Experiments: when they log, evaluate, save and stop, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from metaloop import Experiment, checkpoint
from metaloop.errors import Incompatible, UserError
from metaloop.hooks import hookimpl
from metaloop.key import Key
from metaloop.learner import Learner
from metaloop.outcome import Draw, Outcome, outcome
from metaloop.specs import Spec
from metaloop.testing.toys import Climb, Fit, Guess, Lines, Quadratics, Text, Words
from pydantic import ValidationError
from torch import Tensor, nn

from .methods import Anneal, Search, Sgd, Windows, small, steps_with
from .parts import Diary, Drift, Levels, same


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("METALOOP_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


class Saves:
    """Hears of checkpoints and rows."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.rows: list[Any] = []

    @hookimpl
    def checkpoint_saved(self, step: int, path: Path) -> None:
        assert (path / "tree.json").is_file()
        self.steps.append(step)

    @hookimpl
    def steps_ended(self, rows: Any) -> None:
        self.rows += rows


@pytest.mark.parametrize(
    ("settings", "losses", "evaluations", "saved"),
    [
        ({}, [1, 2, 3, 4, 5, 6], [], [1, 2, 3, 4, 5, 6]),
        ({"eval_tasks": 2}, [1, 2, 3, 4, 5, 6], [6], [1, 2, 3, 4, 5, 6]),
        ({"eval_tasks": 2, "eval_every": 2, "checkpoint_every": 4}, [1, 2, 3, 4, 5, 6], [2, 4, 6], [4, 6]),
        ({"eval_tasks": 2, "eval_every": 4, "log_every": 2, "checkpoint_every": 100}, [2, 4, 6], [4, 6], [6]),
        ({"log_every": 4, "checkpoint_every": 3}, [4, 6], [], [3, 6]),
        ({"log_every": 100}, [6], [], [1, 2, 3, 4, 5, 6]),
        ({"steps": 0, "eval_tasks": 2}, [], [0], [0]),
        ({"steps": 0}, [], [], [0]),
        ({"steps": 60}, list(range(1, 61)), [], list(range(3, 61, 3))),
    ],
)
def test_what_happens_at_which_step(
    settings: dict[str, Any], losses: list[int], evaluations: list[int], saved: list[int]
) -> None:
    heard = Saves()
    result = small(**settings).run(quiet=True, hooks=[heard])
    assert steps_with(result, "loss") == losses
    assert steps_with(result, "eval/loss") == evaluations
    assert heard.steps == saved
    assert heard.rows == result.history
    assert [int(path.name) for path in checkpoint.stored(result.path / "checkpoints")] == saved[-1:-3:-1]
    assert result.run.status == "finished"


def test_running_a_finished_run_again_changes_nothing() -> None:
    for settings in ({"eval_tasks": 2}, {"steps": 0, "eval_tasks": 2}, {"max_evaluations": 9, "eval_tasks": 2}):
        experiment = small(**settings)
        first = experiment.run(quiet=True)
        again = experiment.run(run=first.run, quiet=True)
        assert again.history == first.history
        same(again.theta, first.theta)
        numbers = {"seconds", "first_step_seconds"}
        assert {k: v for k, v in again.summary.items() if k not in numbers} == {
            k: v for k, v in first.summary.items() if k not in numbers
        }


def test_a_step_is_pure() -> None:
    experiment = small(learner=Drift(), tasks=Levels(), meta_optimizer=Windows())
    progress = experiment.begin()
    for _ in range(3):
        before = [leaf.clone() for leaf in torch.utils._pytree.tree_leaves(progress) if isinstance(leaf, Tensor)]
        one, other = experiment.advance(progress), experiment.advance(progress)
        after = [leaf for leaf in torch.utils._pytree.tree_leaves(progress) if isinstance(leaf, Tensor)]
        assert all(map(torch.equal, before, after))
        same([one.theta, one.family, one.meta["carry"].state], [other.theta, other.family, other.meta["carry"].state])
        assert one.spent == other.spent
        progress = one


def test_evaluation_tasks_are_the_same_whatever_was_learned() -> None:
    """A curriculum moves on; the yardstick does not."""
    experiment = small(tasks=Levels(), learner=Drift(), eval_tasks=5, eval_every=1, steps=4)
    result = experiment.run(quiet=True)
    fixed = small(tasks=Levels(), learner=Drift(), meta_optimizer=Sgd(lr=0.0), eval_tasks=5, eval_every=1, steps=4)
    losses = [row["eval/loss"] for row in fixed.run(quiet=True).history if "eval/loss" in row]
    assert len(set(losses)) == 1
    assert experiment.evaluate(result.theta).loss.mean().item() == pytest.approx(result.summary["eval/loss"])
    assert len(result.progress.family["level"]) == 12
    other = experiment.evaluate(result.theta, name="test").loss
    assert not torch.equal(other, experiment.evaluate(result.theta).loss)
    assert experiment.evaluate(result.theta, n=2).loss.shape == (2,)


def test_evaluation_is_on_the_world_that_was_trained_on() -> None:
    """A family that draws its world when it begins is evaluated in that same world."""
    seen: list[Tensor] = []

    class Watched(Levels):
        def sample(self, state: Any, n: int, key: Key) -> Any:
            seen.append(state["world"])
            return super().sample(state, n, key)

    experiment = small(tasks=Watched(), learner=Drift(), eval_tasks=3, steps=1)
    experiment.run(quiet=True)
    experiment.evaluate(experiment.begin().theta)
    assert len(seen) == 3
    assert all(torch.equal(world, seen[0]) for world in seen)


def test_evaluation_may_be_on_another_family() -> None:
    far = small(eval_tasks=4, eval_on=Quadratics(offset=50.0)).run(quiet=True)
    assert far.summary["eval/loss"] > 100 > 10 > far.summary["loss"]


def test_evaluation_costs_no_budget() -> None:
    result = small(eval_tasks=50, eval_every=1).run(quiet=True)
    assert (result.summary["evaluations"], result.summary["inner_steps"]) == (18, 54)


@pytest.mark.parametrize(
    ("limit", "steps"), [({"max_evaluations": 9}, 3), ({"max_evaluations": 10}, 4), ({"max_inner_steps": 27}, 3)]
)
def test_a_budget_stops_the_run_for_good(limit: dict[str, int], steps: int) -> None:
    heard = Saves()
    result = small(eval_tasks=2, checkpoint_every=50, **limit).run(quiet=True, hooks=[heard])
    assert result.progress.step == steps
    assert result.summary["evaluations"] == 3 * steps
    assert result.run.status == "finished"
    assert steps_with(result, "loss")[-1] == steps
    assert steps_with(result, "eval/loss") == [steps]
    assert heard.steps == [steps]
    # an evaluation and a row at the end, whatever log_every is
    assert steps_with(small(log_every=50, **limit).run(quiet=True), "loss") == [steps]


def test_a_time_limit_stops_resumably() -> None:
    experiment = small(steps=8, checkpoint_every=100)
    first = experiment.run(max_seconds=0.0, quiet=True)
    assert first.run.status == "stopped"
    assert first.progress.step == 1  # there is progress, however short the time
    for _ in range(7):
        first = experiment.run(run=first.run, max_seconds=0.0, quiet=True)
    assert first.run.status == "finished"
    whole = experiment.run(quiet=True, max_seconds=1000.0)
    same(first.theta, whole.theta)
    assert steps_with(first, "loss") == steps_with(whole, "loss") == list(range(1, 9))


class Grid(Levels):
    """A finite family."""

    size_known: bool = True


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"learner": Fit()}, Incompatible, "Fit draws lines"),
        ({"eval_on": Lines()}, Incompatible, "Descent minimises functions"),
        ({"learner": Guess()}, Incompatible, "Guess is not differentiable"),
        (
            {"tasks": Words(), "learner": Climb()},
            Incompatible,
            "Climb has nothing to meta-learn; leave meta_optimizer out",
        ),
        ({"tasks": Words(), "learner": Text()}, Incompatible, "Text has an object for theta"),
        ({"steps": None}, UserError, "steps: say how many"),
        ({"task_batch": None}, Incompatible, "task_batch: None means all"),
        ({"tasks": Grid(), "learner": Drift(), "task_batch": 8}, Incompatible, "task_batch: asks for 8 .* has 7"),
        ({"tasks": Grid(), "learner": Drift(), "eval_tasks": 8}, Incompatible, "eval_tasks: asks for 8 .* has 7"),
        ({"eval_on": Grid(), "eval_tasks": 8}, Incompatible, "eval_tasks: asks for 8 .* has 7"),
        ({"steps": -1}, ValidationError, "steps"),
        ({"seed": -1}, ValidationError, "seed"),
        ({"name": "../x"}, ValidationError, "name"),
        ({"precision": "float16"}, ValidationError, "precision"),
        ({"stepz": 3}, ValidationError, "stepz"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_built(changes: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        small(**changes)


@pytest.mark.parametrize("device", ["cuda", "cuda:99", "nonsense", "mps"])
def test_a_device_that_is_not_there_is_refused_before_a_run_is_made(root: Path, device: str) -> None:
    if device in ("cuda", "mps") and getattr(torch, device).is_available():
        pytest.skip("there is one")
    with pytest.raises(UserError, match=f"device: '{device}' can't be used here"):
        small(device=device).run(quiet=True)
    assert not root.exists()


def test_all_tasks_of_a_finite_family_are_one_batch() -> None:
    seen: list[Any] = []

    class Watched(Grid):
        def observe(self, state: Any, draw: Draw[Any], outcome: Outcome) -> Any:
            seen.append(draw.tag.tolist())
            return super().observe(state, draw, outcome)

    experiment = Experiment(tasks=Watched(), learner=Drift(everyone=3, steps=3), task_batch=None, device="cpu")
    assert (experiment.batch, experiment.total_steps) == (7, 3)
    result = experiment.run(quiet=True)
    assert seen == [list(range(7))] * 3
    assert result.progress.outcome is not None
    assert result.progress.outcome.loss.shape == (7,)
    assert bool(result.progress.outcome.done.all())
    assert result.summary["inner_steps"] == 21


def test_observe_sees_rows_that_belong_together() -> None:
    """Tag, outcome and done of a row are one task's, also where lives last over several outer steps."""
    seen: list[tuple[Draw[Any], Outcome]] = []

    class Watched(Levels):
        def observe(self, state: Any, draw: Draw[Any], outcome: Outcome) -> Any:
            seen.append((draw, outcome))
            return super().observe(state, draw, outcome)

    for meta in (Sgd(), Windows(window=1), Search(), None):
        seen.clear()
        experiment = small(tasks=Watched(), learner=Drift(), meta_optimizer=meta, steps=8, task_batch=5)
        result = experiment.run(quiet=True)
        assert len(seen) == 8
        done = 0
        for draw, out in seen:
            assert draw.tag.shape == out.loss.shape == (5,)
            assert torch.equal(draw.tasks.allowed, 1 + draw.tag % 4)
            if "steps" in out.metrics:
                assert torch.equal(out.metrics["steps"].double(), draw.tasks.allowed.double())
            done += 5 if out.done is None else int(out.done.sum())
        assert len(result.progress.family["level"]) == done


def test_without_a_meta_optimizer_lives_end_and_are_observed_between_rows() -> None:
    """Steps that are not logged are still observed when a life ends there."""
    rare = small(tasks=Levels(), learner=Drift(), meta_optimizer=None, steps=9, log_every=4).run(quiet=True)
    often = small(tasks=Levels(), learner=Drift(), meta_optimizer=None, steps=9).run(quiet=True)
    same(rare.progress.family, often.progress.family)
    same(rare.progress.carry.state, often.progress.carry.state)
    assert steps_with(rare, "loss") == [4, 8, 9]
    pick = [row["loss"] for row in often.history if row["step"] in (4, 8, 9)]
    assert [row["loss"] for row in rare.history] == pick


class Curve(Learner[Any, Any, Tensor]):
    """Nothing to meta-learn, no inner steps."""

    theta_kind = "none"

    def check(self, spec: Spec) -> None:
        return None

    def begin(self, theta: Any, tasks: Any, keys: Key) -> Tensor:
        return tasks.center

    def evaluate(self, theta: Any, state: Tensor, tasks: Any, keys: Key) -> Outcome:
        return outcome(loss=state.norm(dim=-1))


def test_an_experiment_of_one_evaluation() -> None:
    result = Experiment(tasks=Grid(), learner=Curve(), task_batch=None, device="cpu").run(quiet=True)
    assert result.progress.step == 1
    assert (result.summary["evaluations"], result.summary["inner_steps"]) == (7, 0)


def test_a_live_object_outside_a_learners_state_is_refused_when_it_is_saved() -> None:
    class Holds(Sgd):
        def begin(self, theta: Any, key: Key) -> Any:
            return {"module": nn.Linear(1, 1)}

    with pytest.raises(TypeError, match="meta holds a live Linear"):
        small(meta_optimizer=Holds(momentum=0.0)).run(quiet=True)


def test_different_seeds_give_different_runs_and_equal_ones_equal_runs() -> None:
    one, other, third = (small(seed=seed).run(quiet=True) for seed in (1, 1, 2))
    same(one.theta, other.theta)
    assert not torch.equal(one.theta["start"], third.theta["start"])
    assert one.path != other.path


def test_a_run_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    small(tasks=Lines(), learner=Fit()).run(quiet=True)
    Experiment(tasks=Words(), learner=Diary(), task_batch=2, device="cpu").run(quiet=True)
    small(meta_optimizer=Anneal(), learner=Text(), tasks=Words()).run(quiet=True)
    assert torch.equal(torch.rand(3), expected)
