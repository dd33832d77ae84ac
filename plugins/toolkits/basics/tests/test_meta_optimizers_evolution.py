from __future__ import annotations

from typing import Any

import pytest
import torch
from metaloop import tree
from metaloop.errors import Incompatible, UserError
from metaloop.key import Key
from metaloop.skeleton import decode, encode
from metaloop_basics.meta_optimizers.evolution import EvolutionStrategy, PersistentES, RandomSearch
from metaloop_basics.meta_optimizers.gradient import TruncatedGradient
from metaloop_basics.meta_optimizers.population import normal_like, shaped, weighted
from pydantic import ValidationError

from .toys import Bowls, Distance, Effort, Guess, Points, Theta, Walk, objective

SGD: dict[str, Any] = {"optimizer": "SGD", "lr": 1.0}


def start() -> Theta:
    return Distance().init(Bowls().spec, Key.of(7))


def estimate(meta: Any, theta: Theta, tasks: Any, key: int = 0) -> Theta:
    """The gradient that plain SGD with `lr=1` was given."""
    after, _, _ = meta.step(theta, meta.begin(theta, Key.of(0)), tasks, Key.of(key))
    return {name: value - after[name] for name, value in theta.items()}


def flat(gradient: Theta) -> torch.Tensor:
    return torch.cat([leaf.reshape(-1) for leaf in gradient.values()])


def test_es_estimates_the_gradient_of_a_quadratic() -> None:
    tasks = objective(Distance())
    exact = flat(tasks.grad(start())[0])
    meta = EvolutionStrategy(**SGD, population=8000, sigma=0.1, shaping="none")
    # Antithetic pairs cancel the curvature, so the error is that of the perturbations' covariance, about 1 / sqrt(P/2).
    torch.testing.assert_close(flat(estimate(meta, start(), tasks)), exact, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("shaping", ["centered_rank", "z_score", "pair_rank"])
def test_shaped_es_points_downhill(shaping: Any) -> None:
    tasks = objective(Distance())
    exact = flat(tasks.grad(start())[0])
    found = flat(estimate(EvolutionStrategy(**SGD, population=4000, shaping=shaping), start(), tasks))
    assert torch.cosine_similarity(found, exact, dim=0) > 0.98


def test_chunks_change_nothing() -> None:
    whole, chunked = EvolutionStrategy(population=32), EvolutionStrategy(population=32, chunk=5)
    one, two = (
        meta.step(start(), meta.begin(start(), Key.of(0)), objective(Distance()), Key.of(1))
        for meta in (whole, chunked)
    )
    torch.testing.assert_close(one, two, rtol=0, atol=1e-12)


def test_estimates_keep_thetas_precision_under_autocast() -> None:
    noise = {"a": torch.randn(6, 50)}
    plain = weighted(noise, torch.arange(6.0))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(weighted(noise, torch.arange(6.0)), plain, rtol=0, atol=0)


def test_es_is_a_function_of_its_key() -> None:
    meta, tasks = EvolutionStrategy(**SGD, population=8), objective(Distance())
    again = estimate(meta, start(), tasks, key=1)
    torch.testing.assert_close(estimate(meta, start(), tasks, key=1), again, rtol=0, atol=0)
    assert not torch.equal(flat(estimate(meta, start(), tasks, key=2)), flat(again))


@pytest.mark.parametrize("shaping", ["centered_rank", "z_score", "pair_rank", "none"])
def test_pairs_are_mirror_images(shaping: Any) -> None:
    """At the lowest point both halves of every pair fare alike: there is no gradient, whatever was drawn."""
    tasks = objective(Distance())
    lowest = {"a": tasks.draw.tasks.center.mean(0), "b": torch.zeros((), dtype=torch.float64)}
    meta = EvolutionStrategy(**SGD, population=64, sigma=0.5, shaping=shaping)
    exact = meta.but(shaping="none")
    assert flat(estimate(exact, lowest, tasks)).abs().max() < 1e-12
    fitness = torch.tensor([3.0, 1.0, 2.0, 0.5])
    mirrored = fitness.roll(2)
    torch.testing.assert_close(shaped(mirrored, shaping).roll(2), shaped(fitness, shaping))


def test_shaping_by_hand() -> None:
    fitness = torch.tensor([3.0, 1.0, 1.0, 100.0])
    torch.testing.assert_close(shaped(fitness, "centered_rank"), torch.tensor([1 / 6, -1 / 3, -1 / 3, 0.5]))
    torch.testing.assert_close(shaped(fitness, "pair_rank"), torch.tensor([0.5, -0.5, -0.5, 0.5]))
    torch.testing.assert_close(shaped(fitness, "z_score"), (fitness - 26.25) / fitness.std(correction=0))
    assert shaped(torch.ones(6), "centered_rank").abs().max() == 0  # nothing to tell apart: no step
    broken = torch.tensor([3.0, 1.0, float("nan"), float("-inf")])
    assert shaped(broken, "centered_rank").tolist() == pytest.approx([0.5, 1 / 6, -1 / 3, -1 / 3])
    assert shaped(broken, "pair_rank").tolist() == [0.5, 0.5, -0.5, -0.5]


def test_perturbations_are_standard_normal_and_keep_their_dtype() -> None:
    noise = normal_like({"a": torch.zeros(3), "b": torch.zeros((), dtype=torch.float64)}, 20_000, Key.of(0))
    assert noise["a"].shape == (20_000, 3)
    assert noise["b"].dtype == torch.float64
    for leaf in noise.values():
        assert abs(leaf.mean()) < 0.02
        assert abs(leaf.std() - 1) < 0.02


def test_es_outcome_has_one_row_per_task_and_leaves_its_input_alone() -> None:
    meta, theta = EvolutionStrategy(population=8), start()
    state = meta.begin(theta, Key.of(0))
    before = tree.clone((theta, state))
    _, after, out = meta.step(theta, state, objective(Distance(), n=5), Key.of(0))
    torch.testing.assert_close((theta, state), before, rtol=0, atol=0)
    assert out.loss.shape == out.fitness.shape == out.metrics["near"].shape == (5,)
    torch.testing.assert_close(decode(*encode(after)), after, rtol=0, atol=0)


def test_es_improves_a_learner_with_inner_steps() -> None:
    theta: Theta = {"x": torch.full((3,), 5.0, dtype=torch.float64)}
    meta, better = EvolutionStrategy(population=32, sigma=0.1, lr=0.2), theta
    state = meta.begin(theta, Key.of(0))
    for i in range(60):
        better, state, _ = meta.step(better, state, objective(Walk(), seed=i), Key.of(i))
    fresh = objective(Walk(), n=64, seed=99)
    assert fresh(better).loss.mean() < 0.2 * fresh(theta).loss.mean()


def test_each_pair_on_its_own_task() -> None:
    meta = EvolutionStrategy(**SGD, population=4000, task_per_pair=True, shaping="pair_rank")
    tasks = objective(Distance(), n=2000)
    exact = flat(tasks.grad(start())[0])
    assert torch.cosine_similarity(flat(estimate(meta, start(), tasks)), exact, dim=0) > 0.98
    _, _, out = meta.step(start(), meta.begin(start(), Key.of(0)), tasks, Key.of(0))
    assert out.loss.shape == (2000,)
    assert tasks.spent.evaluations == 2000 + 2 * 4000  # the exact gradient, and two generations
    with pytest.raises(UserError, match="set population=16"):
        estimate(meta, start(), objective(Distance(), n=8))


def test_a_task_of_its_own_for_each_candidate() -> None:
    meta = EvolutionStrategy(**SGD, population=4000, task_per_candidate=True)
    tasks = objective(Distance(), n=4000)
    exact = flat(tasks.grad(start())[0])
    assert torch.cosine_similarity(flat(estimate(meta, start(), tasks)), exact, dim=0) > 0.95
    assert tasks.spent.evaluations == 2 * 4000  # the exact gradient, and one life of each candidate
    with pytest.raises(UserError, match="set population=8"):
        estimate(meta, start(), objective(Distance(), n=8))
    with pytest.raises(UserError, match="exclude each other"):
        EvolutionStrategy(task_per_pair=True, task_per_candidate=True)


def test_object_tasks_and_their_words() -> None:
    tasks = objective(Guess(), family=Points())
    theta = {"x": torch.tensor(3.0)}
    meta = EvolutionStrategy(population=4)
    meta.check(Guess())
    _, _, out = meta.step(theta, meta.begin(theta, Key.of(0)), tasks, Key.of(0))
    assert out.loss.shape == (8,)
    search = RandomSearch(candidates=8, sigma=1.0)
    search.check(Guess())
    best, _, kept = search.step(theta, {}, tasks, Key.of(0))
    assert kept.fitness.mean() > tasks(theta).fitness.mean()
    assert kept.info == [f"guessed {best['x']:.2f}"] * 8


def summed_over_a_life(meta: Any, push: float, n: int) -> float:
    """The gradient estimates of all windows of one life, theta staying almost where it is."""
    theta: Theta = {"push": torch.tensor(push, dtype=torch.float64)}
    state, rate = meta.begin(theta, Key.of(0)), meta.lr
    tasks, total = objective(Effort(), n=n), 0.0
    for i in range(Effort().steps):
        after, state, _ = meta.step(theta, state, tasks, Key.of(i))
        total += (theta["push"] - after["push"]).item() / rate
    return total


def test_pes_is_unbiased_where_truncation_has_the_wrong_sign() -> None:
    frozen: dict[str, Any] = {"optimizer": "SGD", "lr": 1e-6, "window": 1}
    exact = Effort().slope(0.1)
    assert exact == pytest.approx(-4.2)
    assert summed_over_a_life(PersistentES(**frozen, sigma=0.1), 0.1, n=20_000) == pytest.approx(exact, rel=0.05)
    assert summed_over_a_life(TruncatedGradient(**frozen), 0.1, n=4) == pytest.approx(0.4)


def test_pes_finds_the_optimum_that_truncation_misses() -> None:
    learner = Effort()
    meta = PersistentES(window=1, sigma=0.1, optimizer="SGD", lr=0.02)
    theta = learner.init(Bowls().spec, Key.of(0))
    state, tail = meta.begin(theta, Key.of(0)), []
    for i in range(160):
        theta, state, _ = meta.step(theta, state, objective(learner, n=400, seed=i), Key.of(i))
        tail.append(theta["push"].item())
    assert sum(tail[-80:]) / 80 == pytest.approx(learner.best(), abs=0.04)


def test_perturbations_are_forgotten_when_a_life_ends() -> None:
    meta, tasks = PersistentES(window=2, sigma=0.5), objective(Effort(), n=3)
    theta = Effort().init(Bowls().spec, Key.of(0))
    state = meta.begin(theta, Key.of(0))
    theta, half, out = meta.step(theta, state, tasks, Key.of(1))
    assert out.done is not None
    assert out.done.tolist() == [False] * 3
    expected = 0.5 * normal_like(theta, 3, Key.of(1))["push"]
    torch.testing.assert_close(half["xi"]["push"], expected)
    theta, ended, out = meta.step(theta, half, tasks, Key.of(2))
    assert out.done is not None
    assert out.done.tolist() == [True] * 3
    assert ended["xi"]["push"].tolist() == [0.0] * 3
    assert out.loss.shape == (3,)


def test_pes_pairs_share_tasks_and_clocks_and_resume() -> None:
    meta = PersistentES(window=3, sigma=0.2)
    theta = Walk().init(Bowls().spec, Key.of(0))

    def go_on(theta: Theta, state: Any, first: int) -> Any:
        for i in range(first, first + 3):
            theta, state, _ = meta.step(theta, state, objective(Walk(), seed=i), Key.of(i))
        return theta, state

    theta, state = go_on(theta, meta.begin(theta, Key.of(0)), 0)
    up, down = state["positive"], state["negative"]
    torch.testing.assert_close(up._replace(state=None, keys=None), down._replace(state=None, keys=None), rtol=0, atol=0)
    assert torch.equal(up.keys.data, down.keys.data)
    assert not torch.equal(up.state, down.state)
    kept = tree.clone(state)
    after = go_on(theta, state, 3)
    loaded = go_on(*decode(*encode((theta, state))), 3)
    assert all(map(torch.equal, *map(tensors, (state, kept))))
    assert all(map(torch.equal, *map(tensors, (after, loaded))))


def tensors(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree.leaves(value) if isinstance(leaf, torch.Tensor)]


def test_pes_refuses_what_it_cannot_unroll() -> None:
    with pytest.raises(Incompatible, match="steps = 0"):
        PersistentES().check(Distance())
    with pytest.raises(Incompatible, match="can't be stacked"):
        PersistentES().check(Guess(steps=2))


def test_random_search_never_gets_worse() -> None:
    meta, tasks, theta = RandomSearch(candidates=4, sigma=0.3), objective(Distance()), start()
    losses = [tasks(theta).loss.mean().item()]
    for i in range(40):
        theta, _, out = meta.step(theta, {}, tasks, Key.of(i))
        losses.append(out.loss.mean().item())
        assert losses[-1] == pytest.approx(tasks(theta).loss.mean().item(), abs=1e-12)  # the outcome is the kept one's
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.5 * losses[0]


def test_random_search_keeps_the_best_when_nothing_is_better() -> None:
    tasks = objective(Distance())
    lowest = {"a": tasks.draw.tasks.center.mean(0), "b": torch.zeros((), dtype=torch.float64)}
    kept, _, _ = RandomSearch().step(lowest, {}, tasks, Key.of(0))
    torch.testing.assert_close(kept, lowest, rtol=0, atol=0)


def test_random_search_never_takes_a_candidate_that_broke() -> None:
    class Log(Distance):
        def begin_one(self, theta: Theta, task: Any, key: Key) -> torch.Tensor:
            return theta["a"].log()

    theta = {"a": torch.full((3,), 0.05, dtype=torch.float64)}
    kept, _, _ = RandomSearch(candidates=64, sigma=0.2).step(theta, {}, objective(Log()), Key.of(0))
    assert (kept["a"] > 0).all()


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (EvolutionStrategy, {"lr": -1.0}),
        (EvolutionStrategy, {"population": 7}),
        (EvolutionStrategy, {"sigma": 0.0}),
        (EvolutionStrategy, {"shaping": "rank"}),
        (PersistentES, {"sigma": -0.1}),
        (RandomSearch, {"candidates": 0}),
    ],
)
def test_values_out_of_bounds_are_refused(kind: Any, fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(fields))):
        kind(**fields)
