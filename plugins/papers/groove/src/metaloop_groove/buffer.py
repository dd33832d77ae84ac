"""The curriculum: a family that wraps another one and replays the levels that score highest (paper, section 4.2).

Prioritised Level Replay (Jiang et al. 2021) with GROOVE's buffer. It knows nothing of reinforcement learning: levels
are tasks of any family, and what they score is a function of how lives on them ended.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Self

import torch
from metaloop import Draw, Key, Outcome, TaskFamily, UserError, tree
from metaloop.specs import Spec
from metaloop.tasks import AnyTaskFamily
from pydantic import Field
from torch import Tensor

from metaloop_groove.scores import AlgorithmicRegret, Score

_WORST = float("-inf")


class Buffer(NamedTuple):
    """Levels that have been played, and what is known of each."""

    levels: Any
    """Tasks of the wrapped family, `[slot, ...]`, or a list of objects."""
    id: Tensor
    """`[slot]` int64: a level's own number, as in a draw's tag; -1: the slot is empty."""
    score: Tensor
    """`[slot]`: of the last life that ended on the level; minus infinity before."""
    reference: Tensor
    """`[slot]`: what scores compare lives with (the antagonist's return); NaN until it is known."""
    active: Tensor
    """`[slot]` bool: a life is in progress on the level."""
    new: Tensor
    """`[slot]` bool: no life has ended on it yet."""
    source: Any
    """The wrapped family's state."""
    key: Key
    """Names the antagonist's draws."""

    @property
    def ready(self) -> Tensor:
        """`[slot]` bool: levels that can be replayed."""
        return (self.id >= 0) & ~self.active & ~self.new


class LevelBuffer(TaskFamily[Any, Buffer]):
    """Tasks are new levels of a family, or with some probability levels that scored high before.

    Levels enter the buffer when they are first played, in place of the lowest-scored ones that no life is on.
    """

    tasks: AnyTaskFamily = Field(description="where new levels come from")
    score: Score = Field(default_factory=AlgorithmicRegret, description="what a life says of its level")
    slots: int = Field(default=4000, ge=1, description="levels that are kept; at least a batch")
    replay: float = Field(default=0.5, ge=0, le=1, description="probability that a life begins on a known level")
    transform: Literal["rank", "proportional"] = Field(
        default="rank", description="the top-scored levels outright, or a draw by softmax(score / temperature)"
    )
    temperature: float = Field(default=1.0, gt=0, description="of the proportional transform, in units of the score")

    @classmethod
    def example(cls) -> Self:
        """A dozen levels of regression, ranked by loss."""
        from metaloop_basics.tasks.regression import LinearRegression

        from metaloop_groove.scores import Reported

        return cls(tasks=LinearRegression.example(), score=Reported(), slots=12)

    def model_post_init(self, context: Any) -> None:
        """Refuse what can't be scored.

        Raises:
            UserError: the wrapped family learns from outcomes itself.
            Incompatible: the score does not fit the wrapped family's tasks.
        """
        if type(self.tasks).observe is not TaskFamily.observe:
            raise UserError(
                f"LevelBuffer.tasks: {type(self.tasks).__name__} learns from outcomes itself, and its tags would be "
                "lost: wrap a family that does not"
            )
        self.score.check(self.tasks)

    @property
    def spec(self) -> Spec:
        """The wrapped family's."""
        return self.tasks.spec

    def columns(self, tasks: Any) -> Any:
        """The wrapped family's."""
        return self.tasks.columns(tasks)

    def begin(self, key: Key) -> Buffer:
        """An empty buffer."""
        source = self.tasks.begin(key.fold("source"))
        like = self.tasks.sample(source, 1, key.fold("like")).tasks
        n, device = self.slots, key.device
        flag = torch.zeros(n, dtype=torch.bool, device=device)
        score = torch.full((n,), _WORST, dtype=torch.get_default_dtype(), device=device)
        return Buffer(
            levels=like * n if isinstance(like, list) else tree.map_tensors(lambda leaf: _blank(leaf, n), like),
            id=torch.full((n,), -1, dtype=torch.int64, device=device),
            score=score,
            reference=torch.full_like(score, torch.nan),
            active=flag,
            new=~flag,
            source=source,
            key=key.fold("reference"),
        )

    def sample(self, state: Buffer, n: int, key: Key) -> Draw[Any]:
        """Each task is replayed with probability `replay`, if there are `n` levels that could be; the tag is its id."""
        fresh = self.tasks.sample(state.source, n, key.fold("new")).tasks
        ids = key.fold("id").split(n).bits() & (2**62 - 1)
        if int(state.ready.sum()) < n:
            return Draw(fresh, ids)
        again = key.fold("replay").split(n).uniform() < self.replay
        order = self._priority(state, key.fold("order")).topk(n).indices
        slot = order[(again.cumsum(0) - 1).clamp(min=0)]  # the first of those replayed gets the best, and so on
        levels = _mixed(again, _rows(state.levels, slot), fresh)
        return Draw(levels, torch.where(again, state.id[slot], ids))

    def _priority(self, state: Buffer, key: Key) -> Tensor:
        """`[slot]`: the largest are replayed."""
        score = state.score
        if self.transform == "proportional":  # the largest of Gumbel-perturbed logits: a draw without replacement
            uniform = key.uniform(self.slots, dtype=score.dtype).clamp(min=torch.finfo(score.dtype).tiny)
            score = score / self.temperature - (-uniform.log()).log()
        return torch.where(state.ready, score.clamp(min=torch.finfo(score.dtype).min), _WORST)

    def observe(self, state: Buffer, draw: Draw[Any], outcome: Outcome) -> Buffer:
        """Take in the levels that are played, and score those on which a life ended.

        Raises:
            UserError: a batch has more tasks than the buffer has slots.
        """
        ids, n = draw.tag, tree.length(draw.tasks)
        assert ids is not None
        if n > self.slots:
            raise UserError(f"LevelBuffer.slots: {self.slots} slots are too few for a batch of {n} tasks")
        ended = torch.ones_like(ids, dtype=torch.bool) if outcome.done is None else outcome.done
        state = self._taken_in(state, draw.tasks, ids)
        slot = _slots(state.id, ids)
        active = torch.zeros_like(state.active)
        active[slot] = ~ended
        state = state._replace(active=active)
        rows = ended.nonzero()[:, 0]
        return self._scored(state, slot[rows], rows, draw.tasks, outcome) if len(rows) else state

    def _taken_in(self, state: Buffer, levels: Any, ids: Tensor) -> Buffer:
        """Levels that the buffer does not hold replace the lowest-scored ones that are not in the draw."""
        same = ids[:, None] == state.id  # [row, slot]
        rows = (~same.any(1)).nonzero()[:, 0]
        if not len(rows):
            return state
        cost = torch.where(same.any(0), torch.inf, state.score)
        slot = cost.argsort(stable=True)[: len(rows)]
        return state._replace(
            levels=_put(state.levels, slot, _rows(levels, rows)),
            id=state.id.index_copy(0, slot, ids[rows]),
            score=state.score.index_fill(0, slot, _WORST),
            reference=state.reference.index_fill(0, slot, torch.nan),
            new=state.new.index_fill(0, slot, True),
        )

    def _scored(self, state: Buffer, slot: Tensor, rows: Tensor, levels: Any, outcome: Outcome) -> Buffer:
        """The score of lives that ended: rows `rows` of a draw, in slots `slot`."""
        reference = state.reference.clone()
        unknown = reference[slot].isnan().nonzero()[:, 0]
        if len(unknown):
            at = slot[unknown]
            found = self.score.reference(
                self.tasks, _rows(levels, rows[unknown]), state.key, state.key.fold(state.id[at])
            )
            reference[at] = found.to(reference.dtype)
        loss, fitness, metrics = tree.detach(tree.index((outcome.loss, outcome.fitness, outcome.metrics), rows))
        score = self.score.of(Outcome(loss, fitness, metrics), reference[slot]).to(state.score.dtype)
        return state._replace(
            reference=reference,
            score=state.score.index_copy(0, slot, torch.where(score.isnan(), _WORST, score)),
            new=state.new.index_fill(0, slot, False),
        )


def _blank(leaf: Tensor, n: int) -> Tensor:
    return leaf.new_zeros(n, *leaf.shape[1:])


def _slots(held: Tensor, ids: Tensor) -> Tensor:
    """Where in the buffer levels are, `[row]`."""
    return (ids[:, None] == held).to(torch.int8).argmax(1)


def _rows(levels: Any, rows: Tensor) -> Any:
    return [levels[i] for i in rows.tolist()] if isinstance(levels, list) else tree.index(levels, rows)


def _put(levels: Any, slot: Tensor, values: Any) -> Any:
    if not isinstance(levels, list):
        return tree.put(levels, slot, values)
    levels = list(levels)
    for i, value in zip(slot.tolist(), values, strict=True):
        levels[i] = value
    return levels


def _mixed(again: Tensor, known: Any, fresh: Any) -> Any:
    if not isinstance(fresh, list):
        return tree.where(again, known, fresh)
    return [old if replayed else new for replayed, old, new in zip(again.tolist(), known, fresh, strict=True)]
