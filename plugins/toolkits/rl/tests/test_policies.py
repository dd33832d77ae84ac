"""Distributions beside torch's and stable-baselines3's, by numbers and by sampling; actors under `vmap`."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from metaloop import Incompatible, Key
from metaloop.specs import ControlSpec
from metaloop_basics.models import Mlp
from metaloop_rl.models import OrthogonalMlp, joined, part
from metaloop_rl.policies import Actor, Categorical, Gaussian, Squashed, SquashedActor
from stable_baselines3.common.distributions import DiagGaussianDistribution, SquashedDiagGaussianDistribution
from torch import distributions
from torch.func import grad, vmap

ROWS, WIDTH = 6, 3
MANY = 20_000


def gaussian(seed: int, *shape: int) -> Gaussian:
    key = Key.of(seed)
    return Gaussian(key.fold("mean").normal(*shape), 0.3 * key.fold("std").normal(*shape))


@pytest.fixture
def key() -> Key:
    return Key.of(7)


def test_categorical_is_torchs(key: Key) -> None:
    ours, other = (Categorical(Key.of(i).normal(ROWS, WIDTH)) for i in (1, 2))
    theirs, another = (distributions.Categorical(logits=each.logits) for each in (ours, other))
    action = ours.sample(key.split(ROWS))
    torch.testing.assert_close(ours.log_prob(action), theirs.log_prob(action))
    torch.testing.assert_close(ours.entropy(), theirs.entropy())
    torch.testing.assert_close(ours.kl(other), distributions.kl_divergence(theirs, another))
    assert torch.equal(ours.mode, theirs.probs.argmax(-1))


def test_categorical_samples_as_often_as_it_says(key: Key) -> None:
    ours = Categorical(torch.tensor([0.1, 0.2, 0.7]).log().expand(MANY, 3))
    counts = ours.sample(key.split(MANY)).bincount(minlength=3) / MANY
    torch.testing.assert_close(counts, torch.tensor([0.1, 0.2, 0.7]), atol=0.012, rtol=0)


def test_gaussian_is_torchs_and_stable_baselines(key: Key) -> None:
    ours, other = gaussian(1, ROWS, WIDTH), gaussian(2, ROWS, WIDTH)
    theirs, another = (
        distributions.Independent(distributions.Normal(g.mean, g.log_std.exp()), 1) for g in (ours, other)
    )
    peer = DiagGaussianDistribution(WIDTH).proba_distribution(ours.mean, ours.log_std)
    action = ours.sample(key.split(ROWS))
    for named in (theirs.log_prob(action), peer.log_prob(action)):
        torch.testing.assert_close(ours.log_prob(action), named)
    torch.testing.assert_close(ours.entropy(), theirs.entropy())
    torch.testing.assert_close(ours.kl(other), distributions.kl_divergence(theirs, another))


def test_gaussian_with_one_width_for_all_rows(key: Key) -> None:
    shared = Gaussian(torch.zeros(ROWS, WIDTH), torch.tensor([0.0, 0.5, -0.5]))
    assert shared.entropy().shape == shared.kl(shared).shape == (ROWS,)
    drawn = Gaussian(torch.zeros(MANY, WIDTH), shared.log_std).sample(key.split(MANY))
    torch.testing.assert_close(drawn.std(0), shared.log_std.exp(), rtol=0.02, atol=0)


def test_squashed_is_stable_baselines(key: Key) -> None:
    ours = Squashed(gaussian(1, ROWS, WIDTH))
    raw = ours.raw.sample(key.split(ROWS))
    peer = SquashedDiagGaussianDistribution(WIDTH, epsilon=0.0).proba_distribution(ours.raw.mean, ours.raw.log_std)
    wanted = peer.log_prob(raw.tanh(), raw)
    torch.testing.assert_close(ours.log_probs_of_raw(raw).sum(-1), wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.log_prob(raw.tanh()), wanted, rtol=1e-4, atol=1e-4)


def test_squashed_probabilities_integrate_to_one() -> None:
    grid = torch.linspace(-1, 1, 200_001, dtype=torch.float64)[1:-1, None]
    ours = Squashed(Gaussian(torch.full_like(grid, 0.4), torch.tensor(-0.2, dtype=torch.float64)))
    assert (ours.log_prob(grid).exp().sum() * 1e-5).item() == pytest.approx(1, abs=1e-4)


def test_squashed_probabilities_at_the_border_are_finite(key: Key) -> None:
    far = Squashed(Gaussian(torch.full((2, 1), 30.0), torch.zeros(1)))
    assert far.log_probs_of_raw(torch.full((2, 1), 30.0)).isfinite().all()
    assert far.log_prob(far.sample(key.split(2))).isfinite().all()


def test_squashed_kl_is_the_mean_log_ratio(key: Key) -> None:
    one, other = (Squashed(Gaussian(*(leaf.expand(MANY, 2) for leaf in gaussian(i, 2)))) for i in (1, 2))
    raw = one.raw.sample(key.split(MANY))
    ratio = (one.log_probs_of_raw(raw) - other.log_probs_of_raw(raw)).sum(-1)
    assert ratio.mean().item() == pytest.approx(one.kl(other)[0].item(), rel=0.05)


@pytest.mark.parametrize(
    ("actor", "spec"),
    [
        (Actor(net=OrthogonalMlp.example()), ControlSpec(observation=(4,), actions=2)),
        (Actor(net=OrthogonalMlp.example()), ControlSpec(observation=(4,), actions=2, discrete=False)),
        (SquashedActor.example(), ControlSpec(observation=(4,), actions=2, discrete=False)),
    ],
)
def test_actors_draw_the_same_under_vmap(actor: Any, spec: ControlSpec, key: Key) -> None:
    theta = actor.init(spec, key)
    observation, keys = key.normal(5, ROWS, 4), key.split(5).split(ROWS)
    together = actor(theta, observation).sample(keys)
    batched = vmap(lambda seen, own: actor(theta, seen).sample(own))(observation, keys)
    assert together.shape == (5, ROWS) + (() if spec.discrete else (2,))
    torch.testing.assert_close(batched, together)


def test_samples_of_continuous_actions_have_gradients(key: Key) -> None:
    actor = SquashedActor.example()
    theta = actor.init(ControlSpec(observation=(4,), actions=2, discrete=False), key)
    slope = grad(lambda own: actor(own, key.normal(ROWS, 4)).sample(key.split(ROWS)).sum())(theta)
    assert slope["head.weight"].abs().sum() > 0


def test_a_fresh_actor_is_near_uniform_and_orthogonal(key: Key) -> None:
    theta = Actor().init(ControlSpec(observation=(8,), actions=3), key)
    rows = theta["hidden2.weight"] @ theta["hidden2.weight"].T / 2
    torch.testing.assert_close(rows, torch.eye(64), atol=1e-5, rtol=0)
    entropy = Actor()(theta, key.normal(ROWS, 8)).entropy()
    torch.testing.assert_close(entropy, torch.full((ROWS,), math.log(3)), atol=1e-3, rtol=0)
    assert torch.equal(Actor().init(ControlSpec(observation=(8,), actions=3), key)["head.weight"], theta["head.weight"])


def test_parameters_of_several_networks_in_one_dictionary(key: Key) -> None:
    policy, value = (Mlp.example().init((3,), 1, key.fold(i)) for i in range(2))
    theta = joined(policy=policy, value=value)
    assert "policy.head.weight" in theta
    for name, own in (("policy", policy), ("value", value)):
        assert part(theta, name).keys() == own.keys()
        assert all(part(theta, name)[key] is own[key] for key in own)


def test_actors_refuse_what_they_can_not_take(key: Key) -> None:
    with pytest.raises(Incompatible, match="flatten"):
        Actor().init(ControlSpec(observation=(4, 84, 84), actions=2), key)
    with pytest.raises(Incompatible, match="continuous"):
        SquashedActor().init(ControlSpec(observation=(4,), actions=2), key)
