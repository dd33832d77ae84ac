"""Lives in progress: stepped in windows, ended, replaced and differentiated, they stay what whole lives are."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from metaloop import tree
from metaloop.errors import Incompatible
from metaloop.key import Key
from metaloop.outcome import Carry, Outcome
from metaloop.precision import default_dtype
from metaloop.testing.toys import Climb, Quadratics, Text
from torch import Tensor

from .parts import (
    Archive,
    Diary,
    Drift,
    Explorer,
    InPlace,
    Levels,
    Lone,
    Solid,
    objective,
    same,
    thetas_for,
)

LEARNERS = [
    Drift(),
    Drift(everyone=3),
    InPlace(),
    InPlace(varied=True),
    Solid(),
    Lone(),
    Climb(steps=4),
    Diary(),
    Diary(varied=True),
    Explorer(),
]
learners = pytest.mark.parametrize("learner", LEARNERS, ids=lambda learner: repr(learner)[:40])


def theta_of(learner: Any) -> Any:
    return thetas_for(learner) if learner.theta_kind == "tensors" else {}


def rows(out: Outcome) -> dict[str, Any]:
    return {"loss": out.loss, "fitness": out.fitness, **out.metrics}


def plain(tree_of_anything: Any) -> Any:
    """Live objects as what they hold, so that states can be compared."""
    return tree.tree_map(
        lambda leaf: copy.deepcopy(leaf.state_dict()) if hasattr(leaf, "state_dict") else copy.deepcopy(leaf),
        tree_of_anything,
    )


def alike(one: Any, other: Any, tolerance: float = 0.0) -> None:
    """Equal trees of tensors and plain values."""
    ones, others = tree.leaves(plain(one)), tree.leaves(plain(other))
    assert len(ones) == len(others)
    for a, b in zip(ones, others, strict=True):
        if isinstance(a, Tensor):
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
        else:
            assert a == b


@learners
def test_a_whole_life_in_one_window_is_a_call(learner: Any) -> None:
    here, theta = objective(learner), theta_of(learner)
    longest = learner.longest(here.draw.tasks)
    out, carry = here.unroll(theta, None, longest, measure="end")
    alike(rows(out), rows(here(theta)), 1e-6)
    assert out.info == here(theta).info
    assert out.done is not None
    assert bool(out.done.all())
    assert torch.equal(carry.clock.step, carry.clock.lifetime)


@learners
@pytest.mark.parametrize("pieces", [(1, 3), (2, 2), (1, 1, 1, 1), (3, 0, 1)])
def test_windows_add_up_to_the_whole(learner: Any, pieces: tuple[int, ...]) -> None:
    """No life ends before the last window does, so none is replaced on the way."""
    family = None if learner.theta_kind == "none" and not isinstance(learner, Explorer) else Levels(longest=1)
    learner = learner.but(steps=4, **({"everyone": 4} if isinstance(learner, Drift) else {}))
    if hasattr(learner, "varied"):
        learner = learner.but(varied=False)
    here, theta = objective(learner, family=family), theta_of(learner)
    whole, at_once = here.unroll(theta, None, 4, measure="end")
    carry = None
    for k in pieces:
        # A later objective has other tasks and keys; lives in progress keep theirs.
        out, carry = objective(learner, family=family, seed=0 if carry is None else 7).unroll(
            theta, carry, k, measure="end"
        )
    alike(rows(out), rows(whole))
    alike(carry, at_once)


@learners
def test_the_mean_over_a_window_is_that_of_its_steps(learner: Any) -> None:
    here, theta = objective(learner), theta_of(learner)
    together, at_once = here.unroll(theta, None, 3)
    longest = learner.but(steps=4)
    assert longest.longest(here.draw.tasks) >= 1
    seen, carry = [], None
    for _ in range(3):
        if carry is not None:  # a life that has ended stays as it is inside a window, and is replaced between windows
            over = carry.clock.step >= carry.clock.lifetime
            if bool(over.any()):
                break
        out, carry = here.unroll(theta, carry, 1)
        seen.append(rows(out))
    assert seen
    first = here.unroll(theta, None, len(seen))[0]
    mean = tree.tree_map(lambda *each: torch.stack([e.double() for e in each]).mean(0).float(), *seen)
    alike(rows(first), mean, 1e-5)
    assert together.loss.shape == (6,)
    assert int(at_once.clock.step.max()) <= 3


@learners
def test_equal_carries_see_equal_tasks_and_noise_and_stay_usable(learner: Any) -> None:
    here, theta = objective(learner), theta_of(learner)
    _, carry = here.unroll(theta, None, 2)
    before = plain(carry)
    later = objective(learner, seed=4)
    one, after_one = later.unroll(theta, carry, 3)
    alike(carry, before)
    other, after_other = later.unroll(theta, carry, 3)
    alike(carry, before)
    alike(rows(one), rows(other))
    alike(after_one, after_other)
    again, _ = objective(learner, seed=4).unroll(theta, carry, 3)
    alike(rows(again), rows(one))
    assert not torch.equal(one.loss, here.unroll(theta, None, 3)[0].loss)


@learners
def test_lives_that_ended_are_replaced_and_no_others(learner: Any) -> None:
    theta, carry, replaced = theta_of(learner), None, 0
    for step in range(9):
        here = objective(learner, seed=step)
        before = carry
        _, carry = here.unroll(theta, carry, 1)
        assert bool((carry.clock.step <= carry.clock.lifetime).all())
        if before is None:
            continue
        ended = before.clock.step >= before.clock.lifetime
        replaced += int(ended.sum())
        changed = carry.keys.data != before.keys.data
        assert torch.equal(changed, ended)
        assert torch.equal(carry.clock.step, torch.where(ended, 1, before.clock.step + 1))
        for i in (~ended).nonzero().flatten().tolist():
            if isinstance(carry.draw.tasks, list):
                assert carry.draw.tasks[i] == before.draw.tasks[i]
            else:
                same(tree.index(carry.draw.tasks, i), tree.index(before.draw.tasks, i))
                assert carry.draw.tag[i] == before.draw.tag[i]
    assert replaced >= 6
    if learner in (Drift(), Diary(varied=True)):
        assert len(set(carry.clock.step.tolist())) > 1, "lives ended together all the time"


def test_replaced_lives_are_new_lives_on_the_new_tasks() -> None:
    learner, theta = Drift(), thetas_for(Drift())
    _, carry = objective(learner).unroll(theta, None, 2)
    ended = (carry.clock.step >= carry.clock.lifetime).nonzero().flatten()
    assert 0 < len(ended) < 6
    out, after = objective(learner, seed=3).unroll(theta, carry, 4, measure="end")
    for i in ended.tolist():
        task, key = tree.index(after.draw.tasks, slice(i, i + 1)), Key(after.keys.data[i : i + 1])
        expected, _ = learner.live(theta, task, key)
        torch.testing.assert_close(out.loss[i : i + 1], expected.loss)
    assert len(set(after.keys.data.tolist())) == 6


def test_a_state_that_is_a_list_of_tensors_is_no_list_of_states() -> None:
    """Exactly as many lives end as the state has tensors."""
    learner, theta = Drift(), thetas_for(Drift())
    _, carry = objective(learner).unroll(theta, None, 1)
    for seed in range(40):
        _, carry = objective(learner, seed=seed).unroll(theta, carry, 1)
        assert [tuple(part.shape) for part in carry.state] == [(6, 2), (6, 2)]


def test_rows_are_shared_with_nobody() -> None:
    """Going on from a carry, and changing in place what came back, leaves the family's tasks and theta alone."""
    learner = InPlace()
    here, theta = objective(learner), thetas_for(InPlace())
    tasks, start = plain(here.draw.tasks), plain(theta)
    _, carry = here.unroll(theta, None, 2)
    for _ in range(3):
        _, carry = here.unroll(theta, carry, 2)
    same(here.draw.tasks, tasks)
    same(theta, start)


@pytest.mark.parametrize("learner", LEARNERS[:5], ids=lambda learner: repr(learner)[:40])
@pytest.mark.parametrize("measure", ["each", "end"])
def test_a_candidate_for_each_life_equals_them_alone(learner: Any, measure: Any) -> None:
    thetas, carry, carries = thetas_for(learner, 6), None, [None] * 6
    for step, k in enumerate((2, 1, 3)):
        here = objective(learner, seed=step)
        out, carry = here.unroll(thetas, carry, k, each=True, measure=measure)
        for i in range(6):
            everyone, carries[i] = here.unroll(tree.index(thetas, i), carries[i], k, measure=measure)
            alike(tree.index(rows(out), i), tree.index(rows(everyone), i), 2e-6)
            same(tree.index(carry.state, i), tree.index(carries[i].state, i), 2e-6)


def test_a_candidate_for_each_life_needs_stackable_thetas_and_as_many() -> None:
    with pytest.raises(Incompatible, match="Lone can't run under a theta of its own for every task"):
        objective(Lone()).unroll(thetas_for(Lone(), 6), None, 1, each=True)
    with pytest.raises(Incompatible, match="Text"):
        objective(Text()).unroll(["abc"] * 6, None, 1, each=True)
    with pytest.raises(ValueError, match=r"4 candidates.*6 tasks"):
        objective(Drift()).unroll(thetas_for(Drift(), 4), None, 1, each=True)


@pytest.mark.parametrize("learner", [Drift(), Drift(everyone=3), InPlace(), Solid()], ids=str)
def test_the_gradient_through_a_whole_life_is_the_gradient(learner: Any) -> None:
    with default_dtype(torch.float64):
        here, theta = objective(learner), thetas_for(learner)
        gradient, out = here.grad(theta)
        k = learner.longest(here.draw.tasks)
        windowed, out_of_window, carry = here.unroll_grad(theta, None, k, measure="end")
        same(windowed, gradient, 1e-12)
        same(rows(out_of_window), rows(out), 1e-12)
        _, expected = here.unroll(theta, None, k, measure="end")
        same(carry.state, expected.state, 1e-12)


@pytest.mark.parametrize("learner", [Drift(), Drift(everyone=3), InPlace(), InPlace(varied=True), Solid()], ids=str)
@pytest.mark.parametrize("measure", ["each", "end"])
def test_a_truncated_gradient_is_that_of_detached_lives(learner: Any, measure: Any) -> None:
    """By hand: autograd through this window's steps only; lives born in it also through how they begin."""
    with default_dtype(torch.float64):
        theta, carry = thetas_for(learner), None
        for step in range(5):
            here = objective(learner, seed=step)
            before = plain(carry)
            start = here._reborn(theta, carry, each=False)
            leaves = {name: value.clone().requires_grad_() for name, value in theta.items()}
            tasks, clock, keys = start.draw.tasks, start.clock, start.keys
            begun = learner.begin(leaves, tasks, keys.fold("begin"))
            state = tree.where(clock.step == 0, begun, tree.clone(start.state))
            losses = []
            for i in range(2):
                new = learner.step(leaves, tree.clone(state), tasks, clock, keys.fold("step").fold(clock.step))
                alive = clock.step < clock.lifetime
                state = tree.where(alive, new, state)
                clock = clock._replace(step=clock.step + alive)
                if measure == "each" or i == 1:
                    kept = learner.evaluate(leaves, tree.clone(state), tasks, keys.fold("evaluate").fold(clock.step))
                    losses.append(kept.loss)
            loss = torch.stack(losses).mean(0)
            expected = torch.autograd.grad(loss.mean(), list(leaves.values()), allow_unused=True)
            gradient, out, after = here.unroll_grad(theta, carry, 2, measure=measure)
            same(list(gradient.values()), [torch.zeros(()) if g is None else g for g in expected], 1e-12)
            same(out.loss, loss.detach(), 1e-12)
            same(after.state, tree.detach(state), 1e-12)
            same(after.clock, clock)
            if carry is not None:
                alike(carry, before)
            assert not any(leaf.requires_grad for leaf in tree.leaves([gradient, rows(out), after]))
            carry = after


def test_unrolling_with_and_without_gradients_is_the_same_life() -> None:
    learner, theta = Drift(), thetas_for(Drift())
    with_grad, without = None, None
    for step in range(4):
        here = objective(learner, seed=step)
        _, one, with_grad = here.unroll_grad(theta, with_grad, 2)
        other, without = here.unroll(theta, without, 2)
        same(rows(one), rows(other), 1e-6)
        same(with_grad, without, 1e-6)
        assert one.done is not None
        assert torch.equal(one.done, with_grad.clock.step >= with_grad.clock.lifetime)
        assert other.done is not None
        assert torch.equal(one.done, other.done)


def test_budgets_of_windows_count_steps_taken_and_evaluations_made() -> None:
    learner, theta = Drift(), thetas_for(Drift())
    here = objective(learner)
    allowed = here.draw.tasks.allowed
    _, carry = here.unroll(theta, None, 3)
    steps = int(allowed.clamp(max=3).sum())
    assert tuple(here.spent) == (18, steps)
    _, after = here.unroll(theta, carry, 2, measure="end")
    reborn = carry.clock.step >= carry.clock.lifetime
    left = torch.where(reborn, after.clock.lifetime, after.clock.lifetime - carry.clock.step)
    steps += int(left.clamp(max=2).sum())
    assert tuple(here.spent) == (24, steps)
    here.unroll_grad(theta, None, 1)
    assert tuple(here.spent) == (30, steps + 6)
    _, _ = here.unroll(theta, None, 0)
    assert tuple(here.spent) == (36, steps + 6)


def test_the_observed_draw_is_that_of_the_lives() -> None:
    learner, theta = Drift(), thetas_for(Drift())
    here = objective(learner)
    assert here.observed is here.draw
    _, carry = here.unroll(theta, None, 3)
    later = objective(learner, seed=5)
    out, after = later.unroll(theta, carry, 1)
    same(later.observed, after.draw)
    assert out.loss.shape == later.observed.tag.shape
    assert torch.equal(after.draw.tasks.allowed, 1 + later.observed.tag % 4)


@learners
@pytest.mark.parametrize("judge", [False, True])
def test_lives_of_nobody_else_go_on_step_by_step(learner: Any, judge: bool) -> None:
    theta, carry, reference = theta_of(learner), None, None
    for step in range(7):
        here, twin = objective(learner, seed=step), objective(learner, seed=step)
        out, carry = here.carry_on(theta, carry, judge=judge)
        expected, reference = twin.unroll(theta, reference, 1, measure="end")
        alike(carry, reference)
        assert expected.done is not None
        assert (out is not None) == (judge or bool(expected.done.any()))
        if out is not None:
            alike(rows(out), rows(expected))
            assert out.done is not None
            assert torch.equal(out.done, expected.done)
            assert out.info == expected.info
        assert here.spent.inner_steps == twin.spent.inner_steps
        assert here.spent.evaluations == (6 if out is not None else 0)


class Grows(Explorer):
    """What it has found is a plain list in the state, and its tensor grows as well."""

    def begin(self, theta: Any, tasks: Any, keys: Key) -> dict[str, Any]:
        return {"found": [], "seen": torch.zeros(len(keys), 0)}

    def step(self, theta: Any, state: dict[str, Any], tasks: Any, clock: Any, keys: Key) -> dict[str, Any]:
        drawn = keys.normal(1)
        return {"found": [*state["found"], float(drawn.max())], "seen": torch.cat([state["seen"], drawn], 1)}

    def evaluate(self, theta: Any, state: dict[str, Any], tasks: Any, keys: Key) -> Outcome:
        return Outcome(-state["seen"].sum(1), state["seen"].sum(1), {})


def test_a_state_may_grow_where_lives_end_together() -> None:
    learner, carry = Grows(steps=3), None
    sizes = []
    for step in range(7):
        _, carry = objective(learner, seed=step).carry_on({}, carry, judge=True)
        sizes.append((len(carry.state["found"]), carry.state["seen"].shape[1]))
    assert sizes == [(1, 1), (2, 2), (3, 3), (1, 1), (2, 2), (3, 3), (1, 1)]


def test_a_family_without_tags_has_none_in_its_carries() -> None:
    learner = Drift(everyone=2)

    class Untagged(Levels):
        def sample(self, state: Any, n: int, key: Key) -> Any:
            return super().sample(state, n, key)._replace(tag=None)

    carry = None
    for step in range(4):
        _, carry = objective(learner, family=Untagged(), seed=step).unroll(thetas_for(learner), carry, 1)
        assert isinstance(carry, Carry)
        assert carry.draw.tag is None
    assert Quadratics().sample({}, 3, Key.of(0)).tag is None


def test_a_live_object_in_a_copied_state_is_another_object() -> None:
    learner = Explorer()
    _, carry = objective(learner).unroll({}, None, 2)
    archive = carry.state["archive"]
    assert isinstance(archive, Archive)
    _, after = objective(learner).unroll({}, carry, 1)
    assert after.state["archive"] is not archive
    assert (len(archive.found), len(after.state["archive"].found)) == (2, 3)
