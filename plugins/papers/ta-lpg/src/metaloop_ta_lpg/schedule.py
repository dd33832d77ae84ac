"""What a learned rule does with the time of a life: how large its updates are, and how certain its agents become."""

from __future__ import annotations

from typing import NamedTuple

import torch
from metaloop import Key
from metaloop.outcome import Clock
from metaloop_rl.learners.lpg import Lpg
from metaloop_rl.learners.lpg_network import Experience
from metaloop_rl.models import Theta
from metaloop_rl.tasks import Environments, Worlds
from torch import Tensor

FRACTIONS = (0.0, 0.25, 0.5, 0.75, 1.0)


class Schedule(NamedTuple):
    """A rule along a life of N updates."""

    size: list[float]
    """Mean |pi_hat| on one fixed bank of experience, told that it is at each of `FRACTIONS` of the life."""
    entropy: list[float]
    """Of agents' policies after each of N updates, in nats, mean over lives."""
    returned: float
    """Mean return of the agents at the end."""

    @property
    def dynamicity(self) -> float:
        """How much the size of updates changes over the life: its deviation by its mean."""
        size = torch.tensor(self.size, dtype=torch.float64)
        return float(size.std(correction=0) / size.mean().clamp(min=1e-12))

    @property
    def annealing(self) -> float:
        """Entropy at the life's end less that at a quarter of it."""
        return self.entropy[-1] - self.entropy[max(0, len(self.entropy) // 4 - 1)]


def levels(family: Environments, n: int, lifetime: int, key: Key) -> tuple[Worlds, Key]:
    """`n` levels with lives of one length, and their keys: the same levels for every length."""
    own = family.but(lifetimes=(lifetime, lifetime))
    return own.sample({}, n, key.fold("levels")).tasks, key.fold("lives").split(n)


@torch.no_grad()
def follow(learner: Lpg, theta: Theta, family: Environments, lifetime: int, n: int, key: Key) -> Schedule:
    """The schedule of a rule on `n` levels that it was not trained on."""
    tasks, keys = levels(family, n, lifetime, key)
    state, end = learner.begin(theta, tasks, keys.fold("begin")), torch.full((n,), lifetime, device=key.device)
    entropy = []
    for k in range(lifetime):
        state = learner.step(theta, state, tasks, Clock(torch.full_like(end, k), end), keys.fold("step", k))
        entropy.append(float(state.terms[:, -1, 0].mean()))
    returned = learner.evaluate(theta, state, tasks, keys.fold("evaluate", lifetime)).fitness
    return Schedule(sizes(learner, theta, bank(learner, family, n, key), lifetime), entropy, float(returned.mean()))


@torch.no_grad()
def bank(learner: Lpg, family: Environments, n: int, key: Key) -> Experience:
    """A segment of each of `n` levels under agents drawn at random: the same for all rules."""
    tasks, keys = levels(family, n, 1, key)
    state = learner.begin({}, tasks, keys)
    weights = [
        {**part.values, "table": key.fold(who).normal(*part.values["table"].shape)}
        for who, part in (("actors", state.actor), ("predictors", state.predictor))
    ]
    acting = state._replace(actor=state.actor._replace(values=weights[0]))
    happened, _ = learner.act(acting, tasks, keys.fold("bank"))
    task, time, worker = happened.reward.shape
    policy, y = (learner.heads.outputs(values, happened.seen).softmax(-1) for values in weights)
    probability = policy[:, : time * worker].gather(-1, happened.action.flatten(1)[..., None])
    found = y.reshape(task, time + 1, worker, -1)
    return Experience(happened.reward, happened.done, probability.reshape(task, time, worker), found)


def sizes(learner: Lpg, theta: Theta, seen: Experience, lifetime: int) -> list[float]:
    """Mean |pi_hat| on the bank at each of `FRACTIONS`."""
    n = seen.reward.shape[0]
    end = torch.full((n,), lifetime, device=seen.reward.device)

    def at(fraction: float) -> Tensor:
        step = torch.full_like(end, round(fraction * lifetime))
        return learner.network(theta, seen, Clock(step, end)).pi_hat.abs().mean()

    return [float(at(fraction)) for fraction in FRACTIONS]
