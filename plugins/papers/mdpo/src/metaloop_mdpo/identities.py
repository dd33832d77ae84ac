"""What holds exactly, in float64: gradients that must agree, and mirror descent in finite MDPs."""

from __future__ import annotations

import torch
from metaloop import Key, tree
from metaloop.precision import default_dtype
from metaloop.specs import ControlSpec
from metaloop_basics.models import Mlp
from metaloop_rl.models import Theta, part
from metaloop_rl.policies import Actor, SquashedActor
from torch import Tensor, distributions
from torch.func import grad

from metaloop_mdpo import tabular
from metaloop_mdpo.off_policy import OffPolicy, Transition
from metaloop_mdpo.on_policy import Batch, OnPolicy

ROWS, WIDTH, ACTIONS = 200, 5, 3
NET = Mlp(widths=(16, 16), activation="tanh")


def policy_gradient_error(seed: int, *, broken: bool = False) -> float:
    """Largest deviation of the gradient of Psi at pi_k from E[grad log pi(a|s) A], over its largest entry.

    The larger one of a Gaussian and a categorical policy. Broken: pi_k is another policy.
    """
    errors = []
    for discrete in (False, True):
        with default_dtype(torch.float64):
            key, spec = (
                Key.of(seed).fold(int(discrete)),
                ControlSpec(observation=(WIDTH,), actions=ACTIONS, discrete=discrete),
            )
            learner = OnPolicy(actor=Actor(net=NET))
            policy = learner.actor.init(spec, key)
            away = {name: value + 0.1 * key.fold(name).normal(*value.shape) for name, value in policy.items()}
            seen, advantage = key.fold("seen").normal(ROWS, WIDTH), key.fold("advantage").normal(ROWS)
            action = learner.actor(policy, seen).sample(key.split(ROWS))
            batch = Batch(seen, action, advantage, advantage, advantage)

            def vanilla(theta: Theta, batch: Batch = batch, actor: Actor = learner.actor) -> Tensor:
                return -(actor(theta, batch.observation).log_prob(batch.action) * batch.advantage).mean()

            errors.append(
                _away(grad(learner.loss(away if broken else policy, batch, 0.5))(policy), grad(vanilla)(policy))
            )
    return max(errors)


def sac_gradient_error(seed: int, *, broken: bool = False) -> float:
    """Largest deviation of the policy's gradient with c = lambda from that of SAC's loss, over its largest entry.

    SAC's E[lambda log pi(a~|s) - Q1(s, a~)] is written with torch's distributions. Broken: c = 1.
    """
    with default_dtype(torch.float64):
        key, spec = Key.of(seed), ControlSpec(observation=(WIDTH,), actions=ACTIONS, discrete=False)
        learner = OffPolicy(
            klcoeff=1.0 if broken else 0.2, entropy=0.2, decay=0.0, actor=SquashedActor(net=NET), critic=NET
        )
        theta = learner.init(spec, key)
        old = {name: value + 0.1 * key.fold(name).normal(*value.shape) for name, value in part(theta, "policy").items()}
        seen, action = key.fold("seen").normal(ROWS, WIDTH), key.fold("action").normal(ROWS, ACTIONS)
        zeros, keys = torch.zeros(ROWS), key.split(ROWS)
        batch = Transition(seen, action, zeros, seen, zeros)

        def ours(theta: Theta) -> Tensor:
            return learner.losses(theta, old, part(theta, "value"), batch, keys)["policy_loss"]

        def sac(theta: Theta) -> Tensor:
            raw = learner.actor(part(theta, "policy"), seen).raw
            squash = distributions.TanhTransform(cache_size=1)
            pi = distributions.TransformedDistribution(
                distributions.Normal(raw.mean, raw.log_std.exp(), validate_args=False), [squash], validate_args=False
            )
            a = squash(raw.mean + raw.log_std.exp() * keys.normal(ACTIONS))
            first = tree.index(part(theta, "q"), 0)
            q = NET.outputs({name: value.detach() for name, value in first.items()}, torch.cat([seen, a], -1))
            log_pi: Tensor = pi.log_prob(a).sum(-1)  # type: ignore[no-untyped-call]
            return (learner.entropy * log_pi - q.squeeze(-1)).mean()

        return _away(part(grad(ours)(theta), "policy"), part(grad(sac)(theta), "policy"))


def _away(found: Theta, wanted: Theta) -> float:
    largest = max(float(value.abs().max()) for value in wanted.values())
    return max(float((found[name] - value).abs().max()) for name, value in wanted.items()) / largest


T, ITERATIONS, MDPS = 3.0, 1000, 20


def values_over_iterations(seed: int, *, broken: bool = False) -> tuple[Tensor, Tensor]:
    """V of tabular MDPO's policies `[K + 1, mdp, S]`, and of the best ones `[mdp, S]`.

    Broken: advantages of other states, one along.
    """
    with default_dtype(torch.float64):
        mdp = tabular.random_mdp(Key.of(seed).split(MDPS))
        if not broken:
            return tabular.descend(mdp, ITERATIONS, T), tabular.optimal(mdp)
        policy, seen = torch.full_like(mdp.reward, 1 / mdp.reward.shape[-1]), []
        for _ in range(ITERATIONS + 1):
            now = tabular.values(mdp, policy)
            seen.append(now.state)
            policy = tabular.mirror_step(policy, now.advantage.roll(1, dims=-2), T)
        return torch.stack(seen), tabular.optimal(mdp)


def largest_fall(path: Tensor) -> float:
    """The largest fall of a state's value from one iteration to the next."""
    return float((path[:-1] - path[1:]).max().clamp(min=0))


def rate_excess(path: Tensor, best: Tensor) -> float:
    """By how much, at worst, gap_k is above gap_0 / sqrt(k + 1), over gap_0; gaps are means over states."""
    gaps = (best - path).mean(-1)  # [k, mdp]
    k = torch.arange(1, len(gaps) + 1, dtype=gaps.dtype)
    return float((gaps / gaps[0] - k.rsqrt()[:, None]).max().clamp(min=0))


def last_gap(path: Tensor, best: Tensor) -> float:
    """The largest state's gap to the best value at the end, over the range of values 1 / (1 - gamma)."""
    return float((best - path[-1]).max()) * (1 - tabular.GAMMA)
