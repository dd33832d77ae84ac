"""Grid worlds of the literature: the levels on which learned objectives were trained, by name.

Those named after what they ask for are of Oh et al. (2020); the sizes are of GROOVE (Jackson et al. 2023).
"""

from __future__ import annotations

from metaloop import UserError

from metaloop_rl.envs.grid import GridObject, GridWorld


def _objects(*kinds: tuple[int, float, float, float]) -> tuple[GridObject, ...]:
    """So many objects with this reward, probability to end the episode and probability to come back."""
    return tuple(
        GridObject(reward=(reward, reward), terminate=(terminate, terminate), respawn=(respawn, respawn))
        for count, reward, terminate, respawn in kinds
        for _ in range(count)
    )


def _fixed(steps: int, plan: tuple[str, ...], *kinds: tuple[int, float, float, float]) -> GridWorld:
    """A map and objects whose places alone differ from level to level."""
    objects = _objects(*kinds)
    return GridWorld(max_steps=steps, min_steps=steps, plan=plan, objects=objects, least=len(objects))


def _random(steps: tuple[int, int], side: tuple[int, int], walls: int, objects: tuple[int, int]) -> GridWorld:
    """Levels in which everything differs; the first object is always worth having."""
    least, most = objects
    things = (GridObject(reward=(0.0, 1.0)), *([GridObject()] * (most - 1)))
    return GridWorld(min_steps=steps[0], max_steps=steps[1], side=side, walls=walls, objects=things, least=least)


def _open(side: int) -> tuple[str, ...]:
    return ("." * side,) * side


_TWO_ROOMS = ("....#....", ".........", *["....#...."] * 5, ".........", "....#....")
_FOUR_ROOMS = (
    "...........",
    *[".....#....."] * 3,
    "##.#####.##",
    *[".....#....."] * 2,
    "...........",
    *[".....#....."] * 3,
)

_FAMILIES = {
    "small": _random((20, 100), (4, 6), 7, (1, 3)),
    "medium": _random((100, 250), (6, 8), 10, (2, 4)),
    "large": _random((250, 750), (8, 10), 15, (2, 5)),
    "all": _random((20, 750), (4, 10), 15, (1, 5)),
    "dense": _fixed(500, _open(11), (2, 1.0, 0.0, 0.05), (1, -1.0, 0.5, 0.1), (1, -1.0, 0.0, 0.5)),
    "sparse": _fixed(50, _open(13), (1, 1.0, 1.0, 0.0), (1, -1.0, 1.0, 0.0)),
    "long": _fixed(1000, _open(11), (2, 1.0, 0.0, 0.01), (2, -1.0, 0.5, 1.0)),
    "longer": _fixed(2000, _TWO_ROOMS, (2, 1.0, 0.1, 0.01), (5, -1.0, 0.8, 1.0)),
    "long-dense": _fixed(2000, _FOUR_ROOMS, (4, 1.0, 0.0, 0.005)),
}


def grid_family(name: str) -> GridWorld:
    """A family of grid worlds by name: small, medium, large, all, dense, sparse, long, longer, long-dense.

    Raises:
        UserError: there is none of that name.
    """
    if name not in _FAMILIES:
        raise UserError(f"there is no grid family {name!r}, only {', '.join(_FAMILIES)}")
    return _FAMILIES[name]
