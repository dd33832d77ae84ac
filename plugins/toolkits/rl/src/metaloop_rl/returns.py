"""Returns and advantages of trajectories: time first, any axes after it, episodes one after the other.

Where a step `terminated`, nothing comes after it. Where it was merely truncated (or the trajectory stops), what would
have come is worth `next_value`, the value of what the step led to before any reset (`Trajectory.next_observation`).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class VTrace(NamedTuple):
    """Espeholt et al. 2018 (IMPALA), section 4.1."""

    targets: Tensor
    """`[time, *batch]`: v_s, what the value function is fitted to."""
    advantages: Tensor
    """`[time, *batch]`: rho_s (r_s + gamma v_{s+1} - V(x_s)), for the policy gradient."""


def discounted(reward: Tensor, done: Tensor, last: Tensor | float, gamma: float) -> Tensor:
    """Discounted rewards to the end of each episode, `[time, *batch]`.

    Args:
        reward: `[time, *batch]`.
        done: `[time, *batch]` bool: where episodes ended.
        last: `[*batch]`: what comes after the last step, where its episode goes on.
        gamma: discount.
    """
    return _backward(reward, gamma * _not(done, reward), torch.as_tensor(last).expand(reward.shape[1:]))


def gae(
    reward: Tensor, value: Tensor, next_value: Tensor, terminated: Tensor, done: Tensor, gamma: float, lam: float
) -> Tensor:
    """Generalised advantage estimates (Schulman et al. 2016, eq. 16), `[time, *batch]`; plus `value`: TD(lambda).

    Args:
        reward: `[time, *batch]`.
        value: `[time, *batch]`: V of what was acted on.
        next_value: `[time, *batch]`: V of what each step led to, before any reset.
        terminated: `[time, *batch]` bool.
        done: `[time, *batch]` bool: terminated or truncated.
        gamma: discount.
        lam: lambda; 1: discounted returns minus values, 0: one-step errors.
    """
    errors = reward + gamma * _not(terminated, reward) * next_value - value
    return _backward(errors, gamma * lam * _not(done, reward), torch.zeros_like(reward[0]))


def vtrace(
    log_ratio: Tensor,
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    done: Tensor,
    gamma: float,
    rho_max: float = 1.0,
    c_max: float = 1.0,
    lam: float = 1.0,
) -> VTrace:
    """V-trace targets and advantages for actions of another policy.

    Args:
        log_ratio: `[time, *batch]`: log of the policy's probability of the action over the acting one's.
        reward: `[time, *batch]`, and so on as in `gae`.
        value: V of what was acted on.
        next_value: V of what each step led to, before any reset.
        terminated: where nothing comes after.
        done: terminated or truncated.
        gamma: discount.
        rho_max: bound on ratios in errors; it decides whose values are found.
        c_max: bound on ratios in traces; it decides how fast.
        lam: further shortening of traces.
    """
    ratio = log_ratio.exp()
    rho, c, after = ratio.clamp(max=rho_max), lam * ratio.clamp(max=c_max), gamma * _not(terminated, reward)
    more = gamma * _not(done, reward)
    corrections = _backward(
        rho * (reward + after * next_value - value), more * c, torch.zeros_like(reward[0])
    )  # v_s - V(x_s)
    following = torch.cat([corrections[1:], torch.zeros_like(corrections[:1])])
    return VTrace(value + corrections, rho * (reward + after * next_value + more * following - value))


def running(reward: Tensor, done: Tensor, before: Tensor, gamma: float = 1.0) -> tuple[Tensor, Tensor]:
    """Rewards of each episode so far, `gamma` a step older ones, `[time, *batch]`, and what the next step adds to.

    Args:
        reward: `[time, *batch]`.
        done: `[time, *batch]` bool; a new episode begins at zero.
        before: `[*batch]`: of the episodes that were running.
        gamma: how the past is discounted.
    """
    sums = []
    for now, over in zip(reward.unbind(0), done.unbind(0), strict=True):
        sums.append(gamma * before + now)
        before = torch.where(over, 0.0, sums[-1])
    return torch.stack(sums), before


def _not(flag: Tensor, like: Tensor) -> Tensor:
    return 1.0 - flag.to(like.dtype)


def _backward(added: Tensor, kept: Tensor, after: Tensor) -> Tensor:
    """x_t = added_t + kept_t x_{t+1}, from the end."""
    found = []
    for now, share in zip(reversed(added.unbind(0)), reversed(kept.unbind(0)), strict=True):
        after = now + share * after
        found.append(after)
    return torch.stack(found[::-1])
