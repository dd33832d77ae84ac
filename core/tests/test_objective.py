"""Whole lives: batched, chunked, stacked, compiled or spread, they come to the same."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
from typing import Any, ClassVar

import pytest
import torch
from metaloop import executors, tree
from metaloop.engine import Engine
from metaloop.errors import DivergedError, Incompatible, RunError
from metaloop.executors import InProcess, ProcessPool
from metaloop.key import Key
from metaloop.objective import TaskObjective
from metaloop.outcome import Outcome, outcome
from metaloop.precision import default_dtype
from metaloop.testing.toys import Climb, Descent, Fit, Lines, Quadratics, Text, Words
from torch import Tensor, nn

from .parts import Drift, InPlace, Levels, Lone, Solid, objective, same, thetas_for

TENSOR_LEARNERS = [
    Drift(),
    Drift(everyone=3),
    InPlace(),
    InPlace(varied=True),
    Solid(),
    Lone(),
    Drift(everyone=0, steps=0),
]
tensor_learners = pytest.mark.parametrize("learner", TENSOR_LEARNERS, ids=str)


def rows(out: Outcome) -> dict[str, Any]:
    return {"loss": out.loss, "fitness": out.fitness, **out.metrics}


@tensor_learners
def test_a_batch_equals_its_tasks_one_by_one(learner: Any) -> None:
    theta, together = thetas_for(learner), objective(learner)
    keys = Key.of(1).split(6).fold("any")
    out, state = learner.live(theta, together.draw.tasks, keys)
    for i in range(6):
        task = tree.index(together.draw.tasks, slice(i, i + 1))
        alone, its_state = learner.live(theta, task, keys[i : i + 1])
        same(rows(alone), tree.index(rows(out), slice(i, i + 1)), 1e-6)
        same(its_state, tree.index(state, slice(i, i + 1)), 1e-6)


@pytest.mark.parametrize("learner", [Drift(), InPlace(varied=True)], ids=str)
def test_a_life_ends_where_its_task_says(learner: Any) -> None:
    keys = Key.of(1).split(6).fold("any")
    theta, tasks = thetas_for(learner), objective(learner).draw.tasks
    assert len(set(tasks.allowed.tolist())) > 2
    out, state = learner.live(theta, tasks, keys)
    for i, end in enumerate(tasks.allowed.tolist()):
        fixed = Drift(everyone=end) if learner == Drift() else InPlace(steps=end)  # one number for all: no masks
        alone, its_state = fixed.live(theta, tree.index(tasks, slice(i, i + 1)), keys[i : i + 1])
        same(rows(alone), tree.index(rows(out), slice(i, i + 1)), 1e-6)
        same(its_state, tree.index(state, slice(i, i + 1)), 1e-6)


def test_tasks_and_noise_are_the_same_in_every_call_and_other_ones_in_a_fresh_objective() -> None:
    learner = Drift()
    theta, here = thetas_for(learner), objective(learner)
    first = here(theta)
    same(rows(here(theta)), rows(first))
    same(rows(objective(learner)(theta)), rows(first))
    fresh = here.fresh("elite")
    assert not torch.equal(fresh.draw.tasks.center, here.draw.tasks.center)
    assert not torch.equal(here.fresh("other").draw.tasks.center, fresh.draw.tasks.center)
    same(rows(here.fresh("elite")(theta)), rows(fresh(theta)))
    assert here.fresh("elite", 3)(theta).loss.shape == (3,)
    assert not torch.equal(objective(learner, seed=1)(theta).loss, first.loss)


def test_a_fresh_objective_draws_from_the_same_budget() -> None:
    here = objective(Drift(everyone=2), 6)
    theta = thetas_for(Drift())
    here(theta)
    fresh = here.fresh("elite", 3)
    fresh(theta)
    assert tuple(fresh.spent) == tuple(here.spent) == (9, 18)


@pytest.mark.parametrize("learner", [Drift(), Drift(everyone=3), InPlace(), InPlace(varied=True), Solid()], ids=str)
def test_the_gradient_is_autograds(learner: Any) -> None:
    with default_dtype(torch.float64):
        theta, here = thetas_for(learner), objective(learner)
        leaves = {name: value.clone().requires_grad_() for name, value in theta.items()}
        gradient, out = here.grad(theta)
        loss = learner.live(leaves, here.draw.tasks, here._keys)[0].loss
        expected = torch.autograd.grad(loss.mean(), list(leaves.values()))
        same(list(gradient.values()), list(expected), 1e-12)
        same(out.loss, loss.detach(), 1e-12)
        same(rows(out), rows(here(theta)), 1e-12)
    assert not any(leaf.requires_grad for leaf in tree.leaves([gradient, rows(out)]))


class WantsGradients(Descent):
    """A module whose own parameters want gradients takes part in the loss."""

    layer: ClassVar[nn.Linear] = nn.Linear(1, 1)

    def evaluate_one(self, theta: Any, state: Tensor, task: Any, key: Key) -> Outcome:
        loss = super().evaluate_one(theta, state, task, key).loss
        return outcome(loss=loss * self.layer.weight.squeeze().to(loss.dtype).exp())


def test_what_comes_out_of_a_gradient_holds_on_to_no_graph() -> None:
    there = TaskObjective(Engine(WantsGradients()), Quadratics(), {}, 4, Key.of(0))
    theta = {name: value.requires_grad_() for name, value in there.init(Key.of(1)).items()}
    gradient, out = there.grad(theta)
    window, unrolled, carry = there.unroll_grad(theta, None, 1)
    found = (gradient, rows(out), window, rows(unrolled), carry.state)
    assert [leaf for leaf in tree.leaves(found) if leaf.requires_grad] == []
    assert all(value.grad is None for value in theta.values())


def test_the_gradient_through_adaptation_is_what_the_formula_says() -> None:
    """k steps x <- x - r * 2 (x - c) leave (1 - 2r)^k of the distance."""
    with default_dtype(torch.float64):
        learner = Descent(steps=3, lr=0.1)
        here = objective(learner, 5, family=Quadratics())
        theta = learner.init(Quadratics().spec, Key.of(3))
        gradient, out = here.grad(theta)
        start, center, r = theta["start"], here.draw.tasks.center, 0.1
        distance = start - center
        same(out.loss, (1 - 2 * r) ** 6 * (distance**2).sum(-1), 1e-12)
        same(gradient["start"], 2 * (1 - 2 * r) ** 6 * distance.mean(0), 1e-12)
        slope = -12 * r * (1 - 2 * r) ** 5 * (distance**2).sum(-1).mean()  # d/d(log r)
        same(gradient["log_lr"], slope, 1e-12)


@pytest.mark.parametrize("chunk", [1, 2, 4, 6, 9])
@pytest.mark.parametrize("learner", [Drift(), Solid()], ids=str)
def test_a_gradient_in_chunks_is_the_whole_one(learner: Any, chunk: int) -> None:
    theta = thetas_for(learner)
    whole, out = objective(learner).grad(theta)
    parts, out_of_parts = objective(learner, chunk=chunk).grad(theta)
    same(parts, whole, 1e-6)
    same(rows(out_of_parts), rows(out), 1e-6)


@tensor_learners
@pytest.mark.parametrize("chunk", [None, 1, 2, 5])
def test_a_population_equals_its_candidates_one_by_one(learner: Any, chunk: int | None) -> None:
    thetas, here = thetas_for(learner, 4), objective(learner)
    out = here.many(thetas, chunk=chunk)
    assert out.loss.shape == (4, 6)
    for i in range(4):
        same(tree.index(rows(out), i), rows(here(tree.index(thetas, i))), 2e-6)


@tensor_learners
def test_candidates_with_a_task_each_are_the_diagonal(learner: Any) -> None:
    thetas, here = thetas_for(learner, 6), objective(learner)
    out, everything = here.many(thetas, each=True), here.many(thetas)
    assert out.loss.shape == (6,)
    same(rows(out), tree.map_tensors(lambda t: t.diagonal(), rows(everything)), 2e-6)
    same(rows(here.many(thetas, each=True, chunk=4)), rows(out), 2e-6)


@tensor_learners
def test_a_population_may_be_a_sequence(learner: Any) -> None:
    thetas, here = thetas_for(learner, 3), objective(learner)
    several = [tree.index(thetas, i) for i in range(3)]
    for sequence in (several, tuple(several)):
        same(rows(here.many(sequence)), rows(here.many(thetas)), 2e-6)


def test_object_candidates_each_meet_all_tasks_or_their_own() -> None:
    here = objective(Text(), 3, family=Words())
    words = ["abc", "def", "hgf"]
    out = here.many(words)
    assert out.loss.shape == (3, 3)
    for i, word in enumerate(words):
        same(out.loss[i], here(word).loss)
        assert out.info is not None
        assert out.info[i] == here(word).info
    each = here.many(words, each=True)
    same(each.loss, out.loss.diagonal())
    assert out.info is not None
    assert each.info == [out.info[i][i] for i in range(3)]


def test_a_population_of_another_size_than_the_tasks_cannot_have_one_each() -> None:
    for learner in (Drift(), Lone()):
        with pytest.raises(ValueError, match=r"4 candidates.*6 tasks"):
            objective(learner).many(thetas_for(learner, 4), each=True)


def test_adapted_thetas_have_a_row_per_task() -> None:
    learner = Fit(steps=3, lr=0.05)
    here = objective(learner, 4, family=Lines())
    theta = learner.init(Lines().spec, Key.of(0))
    adapted, out = here.adapt(theta)
    assert {name: value.shape for name, value in adapted.items()} == {"weight": (4, 1, 1), "bias": (4, 1)}
    same(rows(out), rows(here(theta)), 1e-6)
    none, _ = objective(learner.but(steps=0), 4, family=Lines()).adapt(theta)
    same(none["weight"], theta["weight"].expand(4, 1, 1))
    with pytest.raises(Incompatible, match="InPlace does not say what an adapted theta is"):
        objective(InPlace()).adapt(thetas_for(InPlace()))


@pytest.mark.parametrize("learner", [Drift(), Drift(everyone=3), Lone()], ids=str)
def test_budgets_are_counted_exactly(learner: Any) -> None:
    here, theta = objective(learner), thetas_for(learner)
    life = int(here.draw.tasks.allowed.sum()) if learner == Drift() else 18
    spent = (0, 0)
    calls = {
        "call": (lambda: here(theta), 1),
        "grad": (lambda: here.grad(theta), 1),
        "many": (lambda: here.many(thetas_for(learner, 3)), 3),
        "each": (lambda: here.many(thetas_for(learner, 6), each=True), 1),
    }
    if learner != Lone():
        calls["adapt"] = (lambda: here.adapt(theta), 1)
    for name, (call, times) in calls.items():
        call()
        spent = (spent[0] + 6 * times, spent[1] + life * times)
        assert tuple(here.spent) == spent, name


def test_drawing_tasks_costs_nothing_and_happens_when_they_are_needed() -> None:
    drawn: list[int] = []

    class Counted(Levels):
        def sample(self, state: Any, n: int, key: Key) -> Any:
            drawn.append(n)
            return super().sample(state, n, key)

    here = objective(Drift(), family=Counted())
    assert here.n == 6
    assert drawn == []
    here(thetas_for(Drift()))
    here.grad(thetas_for(Drift()))
    assert drawn == [6]


def test_info_of_object_tasks_comes_back_in_order() -> None:
    out = objective(Climb(steps=2), 4)({})
    assert out.info is not None
    assert len(out.info) == 4
    assert all(isinstance(word, str) and len(word) == 3 for word in out.info)
    assert set(out.metrics) == {"solved"}


class Sometimes(Climb):
    """Speaks only where it has something to say."""

    def evaluate_one(self, theta: Any, state: Any, task: Any, key: Key) -> Outcome:
        if key.seed() % 2:
            return outcome(fitness=1.0)
        return outcome(fitness=0.0, info=[{"even": True}])


def test_tasks_without_info_leave_a_gap() -> None:
    out = objective(Sometimes(), 8)({})
    assert out.info is not None
    assert [entry is None for entry in out.info] == [value == 1 for value in out.fitness.tolist()]
    assert {True, False} == {entry is None for entry in out.info}


@pytest.fixture(scope="module")
def pool() -> Any:
    return ProcessPool(workers=2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_workers_give_the_same_numbers(pool: ProcessPool, dtype: torch.dtype) -> None:
    with default_dtype(dtype):
        for learner, theta in ((Climb(steps=3), {}), (Text(steps=3), "abc")):
            here, spread = objective(learner, 5), objective(learner, 5, executor=pool)
            same(rows(spread(theta)), rows(here(theta)))
            assert spread(theta).info == here(theta).info
            assert here(theta).loss.dtype == dtype
            same(rows(spread.many([theta, theta])), rows(here.many([theta, theta])))
            assert spread.spent.inner_steps == here.spent.inner_steps - 15


MANY_TASKS = """
import resource, torch
from metaloop.engine import Engine
from metaloop.executors import ProcessPool
from metaloop.key import Key
from metaloop.objective import TaskObjective
from metaloop.testing.toys import Climb, Words

if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
    out = TaskObjective(Engine(Climb(steps=0), ProcessPool(workers=1)), Words(), {}, 300, Key.of(0))({})
    print(len(out.loss))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sets a limit of Unix")
def test_results_of_workers_hold_no_files_open(tmp_path: Any) -> None:
    script = tmp_path / "many.py"
    script.write_text(MANY_TASKS)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.stdout == "300\n", done.stderr


def diverge(step: int) -> None:
    raise DivergedError(step, "theta", None)  # which can't be made again from its message alone


def test_an_exception_that_cannot_travel_is_told_in_words() -> None:
    _, error = pickle.loads(executors._work(pickle.dumps(diverge), pickle.dumps(3)))
    assert str(error).startswith("DivergedError: theta is not finite at step 3")
    _, error = pickle.loads(executors._work(pickle.dumps(math.sqrt), pickle.dumps(-1.0)))
    assert isinstance(error, ValueError)
    assert "Traceback" in error.__notes__[0]


def test_an_item_that_fails_is_named(pool: ProcessPool) -> None:
    for executor in (pool, InProcess()):
        with pytest.raises(RunError, match=r"item 1 failed: ValueError: ") as caught:
            dict(executor.map(math.sqrt, [4.0, -1.0]))
        assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(RunError, match="must be picklable"):
        dict(pool.map(lambda item: item, [1]))
    assert dict(pool.map(math.sqrt, [4.0, 9.0])) == {0: 2.0, 1: 3.0}  # the pool is none the worse
