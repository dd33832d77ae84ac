"""The inner problem and what a swap changes: identities that the theory promises."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from metaloop import Key
from metaloop_notears_topo.graphs import acyclic, arranged, distance, inverse, topological, varsortability, walks
from metaloop_notears_topo.logistic import Logistic
from metaloop_notears_topo.mlp import Mlp
from metaloop_notears_topo.model import LeastSquares, Model
from metaloop_notears_topo.swaps import Swaps, apply, disjoint, first_improving, ranked
from torch import Tensor

KEYS = Key.of(0).split(2)


def data(seed: int, d: int, rows: int = 60, binary: bool = False) -> Tensor:
    """Correlated columns `[2, rows, d]`."""
    key = Key.of(seed)
    x = key.normal(2, rows, d, dtype=torch.float64) @ key.fold("mix").normal(2, d, d, dtype=torch.float64)
    return (x > 0).double() if binary else x


def every_pair(d: int) -> Swaps:
    first, last = torch.triu_indices(d, d, 1)
    return Swaps(first.expand(2, -1), last.expand(2, -1), torch.ones(2, len(first), dtype=torch.bool))


seeds = st.integers(0, 10_000)
hows = st.sampled_from(["exchange", "after", "before"])


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(2, 9))
def test_the_score_by_cholesky_is_that_of_ordinary_least_squares(seed: int, d: int) -> None:
    x, model, order = data(seed, d), LeastSquares(), Key.of(seed).split(2).permutation(d)
    fit = model.begin(x, order, KEYS)
    score, weights = model.score(fit, order), model.weights(fit, order)
    for task in range(2):
        centred = (x[task] - x[task].mean(0)).numpy()
        wanted, total = np.zeros((d, d)), 0.0
        for place, node in enumerate(order[task].tolist()):
            before = order[task, :place].tolist()
            if before:
                wanted[before, node] = np.linalg.lstsq(centred[:, before], centred[:, node], rcond=None)[0]
            total += np.square(centred[:, node] - centred @ wanted[:, node]).sum() / (2 * len(centred))
        assert float(score[task]) == pytest.approx(total, rel=1e-7)
        np.testing.assert_allclose(weights[task].numpy(), wanted, atol=1e-4 * max(1, np.abs(wanted).max()))
    residual = arranged(model.slope(x, fit, order), order).triu(1)
    assert float(residual.max()) < 1e-6 * float(fit.abs().max())


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(2, 9), hows)
def test_a_swaps_gain_from_its_block_is_the_difference_of_whole_scores(seed: int, d: int, how: str) -> None:
    x, model, order, swaps = data(seed, d), LeastSquares(), Key.of(seed).split(2).permutation(d), every_pair(d)
    fit = model.begin(x, order, KEYS)
    gain, _ = model.trial(x, fit, order, swaps, how)
    for pair in range(gain.shape[1]):
        chosen = torch.zeros_like(swaps.valid)
        chosen[:, pair] = True
        after = model.score(fit, apply(order, swaps, chosen, how))
        torch.testing.assert_close(model.score(fit, order) - after, gain[:, pair], rtol=1e-6, atol=1e-8)


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(4, 10), hows)
def test_intervals_that_do_not_overlap_do_not_interact(seed: int, d: int, how: str) -> None:
    x, model, order, swaps = data(seed, d), LeastSquares(), Key.of(seed).split(2).permutation(d), every_pair(d)
    fit = model.begin(x, order, KEYS)
    gain, _ = model.trial(x, fit, order, swaps, how)
    chosen = disjoint(gain, swaps, torch.zeros(2, dtype=torch.float64))
    for task in range(2):
        spans = sorted((int(swaps.first[task, i]), int(swaps.last[task, i])) for i in chosen[task].nonzero())
        assert all(one[1] < other[0] for one, other in pairwise(spans))
    after = model.score(fit, apply(order, swaps, chosen, how))
    total = torch.where(chosen, gain, 0.0).sum(1)
    torch.testing.assert_close(model.score(fit, order) - after, total, rtol=1e-6, atol=1e-8)


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(2, 8))
def test_walks_are_the_gradient_of_h_by_autograd(seed: int, d: int) -> None:
    weights = Key.of(seed).normal(1, d, d, dtype=torch.float64).triu(1)
    size = weights.abs().requires_grad_()
    h = -torch.logdet(torch.eye(d, dtype=torch.float64) - size[0])
    (slope,) = torch.autograd.grad(h, size)
    torch.testing.assert_close(walks(weights), slope.mT)
    assert float(h.detach()) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("model", "binary"), [(LeastSquares(), False), (Logistic(tolerance=1e-9), True), (Mlp(hidden=3), False)]
)
def test_accepting_a_trial_gives_the_score_that_it_promised(model: Model, binary: bool) -> None:
    x, order, swaps = data(1, 5, binary=binary), Key.of(1).split(2).permutation(5), every_pair(5)
    fit = model.begin(x, order, KEYS)
    before = model.score(fit, order)
    gain, trial = model.trial(x, fit, order, swaps, "exchange")
    chosen = disjoint(gain, swaps, torch.zeros(2, dtype=torch.float64))
    assert bool(chosen.any())
    new_order = apply(order, swaps, chosen, "exchange")
    fit = model.accept(fit, trial, chosen)
    total = torch.where(chosen, gain, 0.0).sum(1)
    torch.testing.assert_close(before - model.score(fit, new_order), total, rtol=1e-5, atol=1e-5)
    backward = arranged(model.weights(fit, new_order), new_order).tril()
    assert float(backward.abs().max()) == 0.0


def test_the_logistic_fit_is_liblinears() -> None:
    from sklearn.linear_model import LogisticRegression

    x, order = data(3, 4, rows=200, binary=True), torch.tensor([[2, 0, 3, 1]] * 2)
    model = Logistic(l1=0.02, tolerance=1e-10, iterations=1000)
    weights = model.weights(model.begin(x, order, KEYS), order)
    peer = LogisticRegression(
        l1_ratio=1.0, C=1 / (0.02 * 200), solver="liblinear", fit_intercept=False, tol=1e-10, max_iter=10_000
    )
    for task in range(2):
        peer.fit(x[task][:, [2, 0, 3]].numpy(), x[task][:, 1].numpy())
        np.testing.assert_allclose(weights[task, [2, 0, 3], 1].numpy(), peer.coef_[0], atol=1e-4)


def test_the_networks_gradient_is_autograds() -> None:
    x, model = data(4, 3), Mlp(hidden=2)
    task, parents = torch.tensor([0, 0, 1]), torch.tensor([[0.0, 1, 1], [1, 0, 0], [1, 1, 0]], dtype=torch.float64)
    flat = Key.of(5).normal(3, 8, dtype=torch.float64)
    flat = torch.cat([(flat[:, :6].unflatten(1, (3, 2)) * parents[:, :, None]).flatten(1), flat[:, 6:]], 1)
    flat = flat.requires_grad_()
    y = x.mT[task, torch.tensor([0, 1, 2])]
    value, slope = model.loss(x, task, y, parents, flat)
    (wanted,) = torch.autograd.grad(value.sum(), flat)
    allowed = torch.cat([parents[:, :, None].expand(-1, -1, 2).flatten(1), torch.ones(3, 2)], 1)
    torch.testing.assert_close(slope.detach(), wanted * allowed)


def test_candidates_by_hand() -> None:
    height = torch.tensor([[[1, 0.0, 0.5, 0.0], [0, 1, 0.5, 2.0], [0, 0, 1, 0.1], [0, 0, 0, 1]]])
    slope = torch.tensor([[[0, 1.0, 3.0, 2.0], [0, 0, 4.0, 0.0], [0, 0, 0, 0.01], [0, 0, 0, 0]]])
    keys = Key.of(0).split(1)

    def pairs(swaps: Swaps) -> list[tuple[int, int]]:
        return list(zip(swaps.first[swaps.valid].tolist(), swaps.last[swaps.valid].tolist(), strict=True))

    kkt = ranked(height, slope, "kkt", 1, 4, 0.0, keys)
    assert pairs(kkt.small) == [(0, 3)]  # no walk between 0 and 3, and a steeper slope than that of (0, 1)
    assert pairs(kkt.rest) == [(0, 1), (2, 3), (1, 2)]
    assert pairs(ranked(height, slope, "kkt", 9, 9, 0.05, keys).small) == [(0, 3), (0, 1), (1, 2), (0, 2)]
    code = ranked(height, slope, "code", 1, 4, 0.0, keys)
    assert set(pairs(code.small)) == {(0, 1), (0, 3)}  # all that tie
    assert set(pairs(code.rest)) == {(2, 3), (0, 2), (1, 2)}


def test_the_first_improving_candidate_is_taken_alone() -> None:
    swaps = every_pair(3)
    gain = torch.tensor([[-1.0, 0.2, 0.9], [-1.0, -1.0, -1.0]])
    chosen = first_improving(gain, swaps, torch.zeros(2))
    assert chosen.tolist() == [[False, True, False], [False, False, False]]


def test_swaps_move_nodes_as_they_say() -> None:
    order, swaps = torch.tensor([[5, 6, 7, 8]]), Swaps(*(torch.tensor([[v]]) for v in (0, 2)), torch.tensor([[True]]))
    moved = {how: apply(order, swaps, swaps.valid, how).tolist()[0] for how in ("exchange", "after", "before")}
    assert moved == {"exchange": [7, 6, 5, 8], "after": [6, 7, 5, 8], "before": [7, 5, 6, 8]}


def test_distances_between_graphs_by_hand() -> None:
    true = torch.tensor([[[0, 1.0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]])
    found = torch.tensor([[[0, 0.0, 0, 1], [2, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]])  # one turned, one too many
    apart = distance(found, true)
    assert (apart.shd.item(), apart.tpr.item()) == (2.0, 0.5)
    assert apart.fdr.item() == pytest.approx(2 / 3)
    assert bool(distance(found, true * torch.nan).shd.isnan())


def test_cycles_lose_their_weakest_edges_and_orders_put_parents_first() -> None:
    cyclic = torch.tensor([[[0, 2.0, 0], [0, 0, -1.0], [0.5, 0, 0]]])
    with pytest.raises(ValueError, match="cycle"):
        topological(cyclic)
    kept = acyclic(cyclic)
    assert kept.tolist() == [[[0, 2.0, 0], [0, 0, -1.0], [0, 0, 0]]]
    assert topological(kept).tolist() == [[0, 1, 2]]
    assert inverse(torch.tensor([[2, 0, 1]])).tolist() == [[1, 2, 0]]


def test_varsortability_by_hand() -> None:
    x = torch.tensor([[[1.0, 2, -3], [-1.0, -2, 3], [0, 0, 0]]])
    chain = torch.tensor([[[0, 1.0, 0], [0, 0, 1], [0, 0, 0]]])
    assert varsortability(x, chain).item() == 1.0
    assert varsortability(x, chain.mT).item() == 0.0
