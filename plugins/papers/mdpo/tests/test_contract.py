"""What the core asks of every learner and plugin, checked by `metaloop.testing`."""

from __future__ import annotations

from collections.abc import Callable

from metaloop import testing
from metaloop_mdpo.off_policy import OffPolicy, OffPolicyGym
from metaloop_mdpo.on_policy import OnPolicy, OnPolicyGym
from metaloop_rl.envs.env import Range
from metaloop_rl.tasks import Environments, GymTasks

from .point import POINTS

CARTS = Environments(vary=(Range.example(),))


@testing.parametrize(
    OnPolicy.example(),
    OnPolicy.example().but(lr=0.01, anneal_lr=True, t=0.5, normalise_observations=False, normalise_rewards=False),
    tasks=CARTS,
)
def test_on_policy(check: Callable[[], None]) -> None:
    check()


@testing.parametrize(OnPolicyGym.example(), tasks=GymTasks(id="Pendulum-v1"))
def test_on_policy_in_gymnasium(check: Callable[[], None]) -> None:
    check()


@testing.parametrize(
    OnPolicy.example(), OffPolicy.example(), OffPolicy.example().but(q=1.5, mean_actions=True), tasks=POINTS
)
def test_continuous_tensor_environments(check: Callable[[], None]) -> None:
    check()


@testing.parametrize(OffPolicyGym.example(), tasks=GymTasks(id="Pendulum-v1"))
def test_off_policy_in_gymnasium(check: Callable[[], None]) -> None:
    check()


@testing.parametrize("mdpo")
def test_the_plugin(check: Callable[[], None]) -> None:
    check()
