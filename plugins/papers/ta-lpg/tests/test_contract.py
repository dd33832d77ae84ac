"""What the core asks of every learner and plugin, checked by `metaloop.testing`."""

from __future__ import annotations

from collections.abc import Callable

from metaloop import testing
from metaloop_rl.envs.cartpole import CartPole
from metaloop_rl.tasks import Environments
from metaloop_ta_lpg.lpo import Lpo

POLES = Environments(env=CartPole(max_steps=10))


@testing.parametrize(Lpo.example(), Lpo.example().but(drift=Lpo.example().drift.but(ppo=False)), tasks=POLES)
def test_lpo(check: Callable[[], None]) -> None:
    check()


@testing.parametrize("ta-lpg")
def test_the_plugin(check: Callable[[], None]) -> None:
    check()
