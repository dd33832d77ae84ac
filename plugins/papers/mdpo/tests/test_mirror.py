"""The paper's step in closed form and by gradients, and the regularisers at known points."""

from __future__ import annotations

import pytest
import torch
from metaloop import Key
from metaloop.precision import default_dtype
from metaloop_mdpo import tabular
from metaloop_mdpo.mirror import annealed, log_q, psi, standardised
from torch.func import grad


def test_step_sizes_fall_as_in_the_authors_code() -> None:
    found = [annealed(torch.tensor(k), torch.tensor(4)).item() for k in range(6)]
    assert found == [1.25, 1.0, 0.75, 0.5, 0.25, 0.25]  # 1 + 1/K first, 2/K last, never below 1/K


def test_log_q_at_1_is_the_logarithm_and_at_2_is_linear() -> None:
    logs = Key.of(0).normal(5, 3)
    torch.testing.assert_close(log_q(logs, 1.0), logs.sum(-1))
    torch.testing.assert_close(log_q(logs, 1.0 + 1e-4), logs.sum(-1), rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(log_q(logs, 2.0), (logs.exp() - 1).sum(-1))


def test_probabilities_have_the_authors_floor() -> None:
    assert log_q(torch.tensor([[-100.0]]), 1.5).item() == pytest.approx((1e-6**0.5 - 1) / 0.5)


def test_equal_advantages_are_no_advantage() -> None:
    assert standardised(torch.full((5,), 3.0)).abs().max() == 0


def test_psi_climbs_to_the_closed_form() -> None:
    """Gradient ascent on Psi over a softmax ends at pi_k exp(t A) normalised."""
    with default_dtype(torch.float64):
        policy, advantage, t = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([1.0, -0.5, 0.2]), 0.7

        def loss(logits: torch.Tensor) -> torch.Tensor:
            log_ratio = logits.log_softmax(-1) - policy.log()
            kl = (logits.softmax(-1) * log_ratio).sum(-1)
            weights = 3 * policy  # the expectation under pi_k as a mean of three rows
            return -psi(log_ratio, weights * advantage, kl, t)

        logits = policy.log()
        for _ in range(400):
            logits = logits - 2.0 * grad(loss)(logits)
        torch.testing.assert_close(logits.softmax(-1), tabular.mirror_step(policy, advantage, t), rtol=1e-6, atol=0)


def test_values_of_a_chain_by_hand() -> None:
    """Two states: stay and earn 1, or leave for a state that pays nothing."""
    transition = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]])
    mdp = tabular.Mdp(transition, torch.tensor([[1.0, 0.0], [0.0, 0.0]]), 0.9)
    torch.testing.assert_close(tabular.optimal(mdp), torch.tensor([10.0, 0.0]))
    uniform = torch.full((2, 2), 0.5)
    torch.testing.assert_close(tabular.values(mdp, uniform).state, torch.tensor([0.5 / (1 - 0.45), 0.0]))
    path = tabular.descend(mdp, 50, 1.0)
    assert (path[1:] >= path[:-1] - 1e-6).all()
    torch.testing.assert_close(path[-1], torch.tensor([10.0, 0.0]))


def test_random_mdps_are_mdps() -> None:
    mdp = tabular.random_mdp(Key.of(0).split(5))
    torch.testing.assert_close(mdp.transition.sum(-1), torch.ones(5, 12, 4))
    best = tabular.optimal(mdp)
    bellman = (mdp.reward + 0.9 * torch.einsum("bsat,bt->bsa", mdp.transition, best)).amax(-1)
    torch.testing.assert_close(best, bellman)
