"""Returns and advantages beside hand-computed cases, their definitions and stable-baselines3."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from metaloop import Key
from metaloop_rl import returns
from stable_baselines3.common.buffers import RolloutBuffer
from torch import Tensor
from torch.func import vmap

GAMMA, LAM, TIME, N = 0.9, 0.8, 12, 3


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return Key.of(seed).normal(*shape, dtype=torch.float64)


@pytest.fixture
def ends() -> tuple[Tensor, Tensor]:
    """Terminated, truncated; no step is both."""
    draw = Key.of(1).uniform(TIME, N)
    return draw < 0.15, draw > 0.85


def test_discounted_returns_of_two_episodes_and_a_bootstrap() -> None:
    reward = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    done = torch.tensor([False, True, False, False, False])
    found = returns.discounted(reward, done, 10.0, 0.5)
    assert found.tolist() == [2.0, 2.0, 3 + 0.5 * (4 + 0.5 * (5 + 5.0)), 4 + 0.5 * 10.0, 10.0]


def test_running_returns_begin_anew_and_go_on_in_the_next_trajectory() -> None:
    reward = torch.tensor([[1.0], [2.0], [3.0]])
    done = torch.tensor([[False], [True], [False]])
    sums, after = returns.running(reward, done, torch.tensor([8.0]), 0.5)
    assert sums.squeeze(1).tolist() == [5.0, 4.5, 3.0]
    assert after.tolist() == [3.0]
    assert returns.running(reward, done, after, 0.5)[0][0].item() == 2.5


def test_gae_by_hand_with_a_termination_and_a_truncation() -> None:
    reward, value, following = (torch.tensor(v) for v in ([1.0, 1.0, 1.0], [0.5, 0.2, 0.1], [0.2, 7.0, 3.0]))
    terminated = torch.tensor([False, False, True])
    truncated = torch.tensor([False, True, False])
    found = returns.gae(reward, value, following, terminated, terminated | truncated, 0.9, 0.5)
    last = 1.0 - 0.1  # terminated: 3.0 is never looked at
    middle = 1.0 + 0.9 * 7.0 - 0.2  # truncated: bootstrapped from what it led to, and nothing from the next episode
    torch.testing.assert_close(found, torch.tensor([1.0 + 0.9 * 0.2 - 0.5 + 0.45 * middle, middle, last]))


def test_gae_with_lambda_1_is_the_return_minus_the_value(ends: tuple[Tensor, Tensor]) -> None:
    terminated, _ = ends
    reward, value, last = numbers(TIME, N), numbers(TIME, N, seed=2), numbers(N, seed=3)
    following = torch.cat([value[1:], last[None]])
    found = returns.gae(reward, value, following, terminated, terminated, GAMMA, 1.0)
    torch.testing.assert_close(found, returns.discounted(reward, terminated, last, GAMMA) - value)


def test_gae_is_stable_baselines(ends: tuple[Tensor, Tensor]) -> None:
    terminated, truncated = ends
    done = terminated | truncated
    reward, value, final, last = (numbers(*shape, seed=i) for i, shape in enumerate([(TIME, N)] * 3 + [(N,)]))
    following = torch.where(truncated, final, torch.cat([value[1:], last[None]]))
    found = returns.gae(reward, value, following, terminated, done, GAMMA, LAM)

    box = spaces.Box(-1, 1, (1,))
    peer = RolloutBuffer(TIME, box, box, "cpu", gae_lambda=LAM, gamma=GAMMA, n_envs=N)
    starts = torch.cat([torch.ones(1, N, dtype=torch.bool), done[:-1]]).numpy()
    paid = (reward + GAMMA * final * truncated).numpy()  # its collect_rollouts adds a truncated step's value so
    blank = np.zeros((N, 1))
    for t in range(TIME):
        peer.add(blank, blank, paid[t], starts[t], value[t], torch.zeros(N))
    peer.compute_returns_and_advantage(last, done[-1].numpy())
    np.testing.assert_allclose(found.numpy(), peer.advantages, rtol=2e-5, atol=1e-5)
    np.testing.assert_allclose((found + value).numpy(), peer.returns, rtol=2e-5, atol=1e-5)


def test_vtrace_on_policy_is_td_lambda(ends: tuple[Tensor, Tensor]) -> None:
    terminated, truncated = ends
    reward, value, following = (numbers(TIME, N, seed=i) for i in range(3))
    same = torch.zeros_like(reward)
    done = terminated | truncated
    found = returns.vtrace(same, reward, value, following, terminated, done, GAMMA, lam=LAM)
    advantage = returns.gae(reward, value, following, terminated, done, GAMMA, LAM)
    torch.testing.assert_close(found.targets, value + advantage)


def test_vtrace_is_the_papers_sum() -> None:
    """Equation 1 of IMPALA, written out: no recursion, one endless episode."""
    log_ratio, reward, value = (numbers(TIME, seed=i) for i in range(3))
    following = torch.cat([value[1:], numbers(1, seed=4)])
    never = torch.zeros(TIME, dtype=torch.bool)
    found = returns.vtrace(log_ratio, reward, value, following, never, never, GAMMA, rho_max=1.2, c_max=0.9)
    ratio = log_ratio.exp()
    rho, c = ratio.clamp(max=1.2), ratio.clamp(max=0.9)
    error = rho * (reward + GAMMA * following - value)
    wanted = [value[s] + sum(GAMMA ** (t - s) * c[s:t].prod() * error[t] for t in range(s, TIME)) for s in range(TIME)]
    torch.testing.assert_close(found.targets, torch.stack(wanted))
    after = torch.cat([found.targets[1:], following[-1:]])
    torch.testing.assert_close(found.advantages, rho * (reward + GAMMA * after - value))


def test_a_batch_of_tasks_is_its_tasks(ends: tuple[Tensor, Tensor]) -> None:
    terminated, truncated = ends
    reward, value, following = (numbers(TIME, N, seed=i) for i in range(3))
    given = reward, value, following, terminated, terminated | truncated

    def one(*own: Tensor) -> Tensor:
        return returns.gae(*own, GAMMA, LAM)

    torch.testing.assert_close(vmap(one, in_dims=1, out_dims=1)(*given), one(*given))
