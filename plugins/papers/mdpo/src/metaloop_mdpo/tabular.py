"""MDPO in finite MDPs, exactly: every expectation a sum, every mirror-descent step in closed form."""

from __future__ import annotations

from typing import NamedTuple

import torch
from metaloop import Key
from torch import Tensor

GAMMA = 0.9


class Mdp(NamedTuple):
    """Finite MDPs `[*batch]` with states S and actions A."""

    transition: Tensor
    """`[*batch, S, A, S]`."""
    reward: Tensor
    """`[*batch, S, A]`."""
    gamma: float


class Values(NamedTuple):
    """Of a policy."""

    state: Tensor
    """V, `[*batch, S]`."""
    action: Tensor
    """Q, `[*batch, S, A]`."""

    @property
    def advantage(self) -> Tensor:
        """A = Q - V, `[*batch, S, A]`."""
        return self.action - self.state.unsqueeze(-1)


def random_mdp(key: Key, states: int = 12, actions: int = 4, gamma: float = GAMMA) -> Mdp:
    """MDPs with uniform rewards in [0, 1) and transitions drawn uniformly from the simplex, one for each key."""
    weights = -torch.log1p(-key.fold("transition").uniform(states, actions, states))
    return Mdp(weights / weights.sum(-1, keepdim=True), key.fold("reward").uniform(states, actions), gamma)


def values(mdp: Mdp, policy: Tensor) -> Values:
    """V and Q of a policy `[*batch, S, A]`, by solving its Bellman equations."""
    transition = torch.einsum("...sa,...sat->...st", policy, mdp.transition)
    eye = torch.eye(policy.shape[-2], dtype=policy.dtype, device=policy.device)
    v = torch.linalg.solve(eye - mdp.gamma * transition, (policy * mdp.reward).sum(-1))
    return Values(v, mdp.reward + mdp.gamma * torch.einsum("...sat,...t->...sa", mdp.transition, v))


def mirror_step(policy: Tensor, advantage: Tensor, t: float) -> Tensor:
    """pi_{k+1}(a|s) proportional to pi_k(a|s) exp(t A(s, a)): the step's exact solution."""
    return (policy.log() + t * advantage).softmax(-1)


def optimal(mdp: Mdp) -> Tensor:
    """V of the best policy, `[*batch, S]`, by policy iteration."""
    policy = torch.full_like(mdp.reward, 1 / mdp.reward.shape[-1])
    while True:
        found = values(mdp, policy)
        greedy = torch.nn.functional.one_hot(found.action.argmax(-1), policy.shape[-1]).to(policy)
        if torch.equal(greedy, policy):
            return found.state
        policy = greedy


def descend(mdp: Mdp, iterations: int, t: float) -> Tensor:
    """V of the policies pi_0 (uniform), ..., pi_K, `[K + 1, *batch, S]`."""
    policy = torch.full_like(mdp.reward, 1 / mdp.reward.shape[-1])
    seen = []
    for _ in range(iterations):
        now = values(mdp, policy)
        seen.append(now.state)
        policy = mirror_step(policy, now.advantage, t)
    return torch.stack([*seen, values(mdp, policy).state])
