"""What the core asks of every family, learner and plugin, checked by `metaloop.testing`."""

from __future__ import annotations

from collections.abc import Callable

from metaloop import testing
from metaloop_basics.learners.ridge import Ridge
from metaloop_basics.tasks.regression import LinearRegression
from metaloop_groove.a2c import A2C
from metaloop_groove.buffer import LevelBuffer
from metaloop_groove.levels import Handcrafted
from metaloop_groove.minatar import MinAtar
from metaloop_groove.pool import Pool
from metaloop_groove.scores import AlgorithmicRegret, OptimalRegret, Reported
from metaloop_groove.stages import Standing
from metaloop_groove.transfer import Transfer
from metaloop_rl.envs.grid import GridWorld
from metaloop_rl.tasks import Environments, GymTasks

GRIDS = Environments(env=GridWorld.example().but(view="index"))
REGRET = AlgorithmicRegret(antagonist=A2C.example())


@testing.parametrize(
    LevelBuffer.example(),
    LevelBuffer(tasks=GRIDS, score=REGRET, slots=6, replay=0.9),
    LevelBuffer(tasks=GRIDS, score=OptimalRegret(), slots=6, transform="proportional"),
    LevelBuffer(tasks=GymTasks.example(), score=Reported(), slots=6),
    LevelBuffer(tasks=LinearRegression.example(), score=AlgorithmicRegret(antagonist=Ridge()), slots=5),
    Handcrafted.example(),
    Pool.example(),
    LevelBuffer(tasks=Pool(tasks=GRIDS, n=4), score=REGRET, slots=6),
)
def test_families(check: Callable[[], None]) -> None:
    check()


@testing.parametrize(A2C.example(), tasks=GRIDS)
def test_the_antagonist_with_tables(check: Callable[[], None]) -> None:
    check()


@testing.parametrize(A2C.example(), tasks=Environments.example())
def test_the_antagonist_with_networks(check: Callable[[], None]) -> None:
    check()


@testing.parametrize(AlgorithmicRegret.example(), OptimalRegret(), Reported.example())
def test_scores(check: Callable[[], None]) -> None:
    check()


@testing.parametrize(Standing.example(), Transfer.example(), MinAtar())
def test_stages_and_games(check: Callable[[], None]) -> None:
    check()


@testing.parametrize("groove")
def test_the_plugin(check: Callable[[], None]) -> None:
    check()
