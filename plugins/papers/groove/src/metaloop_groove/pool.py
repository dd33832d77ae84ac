"""A fixed set of levels of a family, all of them or some (paper, section 5.2: training on few levels)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from metaloop import Draw, Key, TaskFamily, UserError, tree
from metaloop.specs import Spec
from metaloop.tasks import AnyTaskFamily
from pydantic import Field


class Pool(TaskFamily[Any, dict[str, Any]]):
    """`n` levels drawn once, of which `rows` are kept: tasks are those, uniformly, with replacement.

    The tag is the level's position in the pool.
    """

    tasks: AnyTaskFamily = Field(description="where the levels come from")
    n: int = Field(default=256, ge=1, description="levels in the pool")
    number: int = Field(default=0, ge=0, description="another number is another pool")
    rows: tuple[int, ...] | None = Field(default=None, min_length=1, description="levels that are kept; None: all")

    @classmethod
    def example(cls) -> Self:
        """Three of five levels."""
        from metaloop_rl.tasks import Environments

        return cls(tasks=Environments.example(), n=5, rows=(0, 3, 1))

    def model_post_init(self, context: Any) -> None:
        """Refuse levels that are not in the pool.

        Raises:
            UserError: a row is outside, or there twice.
        """
        rows = self.rows or ()
        bad = next((row for row in rows if not 0 <= row < self.n or rows.count(row) > 1), None)
        if bad is not None:
            raise UserError(f"Pool.rows: {bad} is outside the pool of {self.n} levels, or there twice")

    @property
    def spec(self) -> Spec:
        """The wrapped family's."""
        return self.tasks.spec

    def columns(self, tasks: Any) -> Mapping[str, Sequence[Any]]:
        """The wrapped family's."""
        return self.tasks.columns(tasks)

    def sample(self, state: dict[str, Any], n: int, key: Key) -> Draw[Any]:
        """`n` of the kept levels."""
        kept = torch.arange(self.n, device=key.device) if self.rows is None else torch.tensor(self.rows).to(key.device)
        tag = kept[key.split(n).randint(0, len(kept))]
        levels = self.whole(key.device)
        return Draw([levels[i] for i in tag.tolist()] if isinstance(levels, list) else tree.index(levels, tag), tag)

    def whole(self, device: torch.device | str = "cpu") -> Any:
        """All `n` levels of the pool, those that are not kept too."""
        own = Key.of(self.number, device).fold("pool")
        return self.tasks.sample(self.tasks.begin(own), self.n, own).tasks
