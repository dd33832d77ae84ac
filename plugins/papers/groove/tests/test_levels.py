"""Hand-curated levels: the same levels in a larger grid."""

from __future__ import annotations

import pytest
import torch
from metaloop import Key, UserError
from metaloop_groove.levels import Handcrafted, laid_into
from metaloop_groove.optimal import optimal_return
from metaloop_groove.pool import Pool
from metaloop_rl.envs.families import grid_family
from metaloop_rl.envs.grid import GridWorld
from metaloop_rl.tasks import Environments


def test_a_level_in_a_larger_grid_is_the_same_level() -> None:
    small = grid_family("small").but(view="index")
    large = Handcrafted(members=("small", "sparse")).env
    assert (large.width, len(large.objects)) == (13, 3)
    levels = small.draw(Key.of(0).split(8))
    laid = laid_into(large, small, levels)
    assert torch.allclose(optimal_return(large, laid), optimal_return(small, levels))
    key, n = Key.of(1), 5
    worlds = [env.reset(key.split(8), n, level)[0] for env, level in ((small, levels), (large, laid))]
    for t in range(40):
        keys = key.fold(t).split(8).split(n)
        action = keys.fold("act").randint(0, 5)
        # The large grid draws for objects that are never there, so what is random differs: compare where nothing is.
        steps = [env.step(state, action, keys) for env, state in zip((small, large), worlds, strict=True)]
        worlds = [step.state for step in steps]
        assert torch.equal(worlds[0].physics.agent // 6 * 13 + worlds[0].physics.agent % 6, worlds[1].physics.agent)


def test_the_five_families_of_lpg() -> None:
    family = Handcrafted()
    draw = family.sample({}, 400, Key.of(0))
    steps = draw.tasks.parameters.steps
    assert draw.tag is not None
    assert draw.tag.unique().tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(steps, torch.tensor([500, 50, 1000, 2000, 2000])[draw.tag])
    assert torch.equal(draw.tasks.parameters.exists.sum(-1), torch.tensor([4, 2, 4, 7, 4])[draw.tag])
    assert isinstance(draw.tasks.env, GridWorld)
    assert family.columns(draw.tasks)["steps"] == steps.tolist()


def test_an_unknown_family_is_refused_when_it_is_named() -> None:
    with pytest.raises(UserError, match="no grid family 'huge'"):
        Handcrafted(members=("huge",))


def test_a_pool_is_the_same_levels_again_and_again() -> None:
    pool = Pool(tasks=Environments(env=grid_family("small")), n=6, number=3)
    whole = pool.whole().parameters
    for family, kept in ((pool, set(range(6))), (pool.but(rows=(4, 1)), {1, 4})):
        draw = family.sample({}, 40, Key.of(0))
        assert draw.tag is not None
        assert set(draw.tag.tolist()) == kept
        assert all(torch.equal(a, b[draw.tag]) for a, b in zip(draw.tasks.parameters, whole, strict=True))
    assert not torch.equal(pool.but(number=4).whole().parameters.reward, whole.reward)
    with pytest.raises(UserError, match="6 is outside the pool of 6 levels"):
        pool.but(rows=(1, 6))
