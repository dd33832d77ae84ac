"""Tasks without end from one data set: random projections of inputs, random permutations of labels (section 2)."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, Self, TypedDict

import torch
from metaloop import Draw, Episode, Key, Outcome, SupervisedSpec, TaskFamily, UserError
from metaloop.errors import DataError
from metaloop_basics.tasks.sampling import distinct
from pydantic import Field
from torch import Tensor

from metaloop_gpicl.data import Bundled, DataSet

_WITHOUT_END = 1 << 62
FIXED = -1
"""The number of the task that bias fixes; drawn tasks have numbers from 0."""


class Numbers(NamedTuple):
    """Which projection and which labels each task has, `[task]` int64 each."""

    projection: Tensor
    labels: Tensor


class RandomProjectionTasks(TaskFamily[Episode, dict[str, Any]]):
    """Task `i` maps an example `(x, y)` to `(A_i x, rho_i(y))`, the same wherever and whenever it is drawn.

    `A_i` has entries N(0, 1/N_x), so that `|A x|` is about `|x|`; `rho_i` puts the classes into `ways` slots at random
    (some classes of a data set that has more, some slots stay empty where it has fewer). Both follow from `seed` and
    the task's number: with another seed tasks are unseen. `tag` is the number.
    """

    data: DataSet = Field(default=Bundled(part="train"), description="the data set that tasks are made from")
    width: int | None = Field(
        default=None, ge=1, description="inputs N_x after projection; narrower data are padded with zeros; None: theirs"
    )
    ways: int = Field(default=5, ge=2, description="label slots")
    shots: int = Field(default=40, ge=1, description="examples in context")
    queries: int = Field(default=16, ge=1, description="queries, different from the context's examples")
    n_tasks: int | None = Field(default=None, ge=1, description="how many tasks there are; None: without end")
    seed: int = Field(default=0, ge=0, description="names the tasks: another seed gives other ones")
    indicators: bool = Field(default=False, description="labels as real indicators, for learners that regress")
    vary: bool = Field(
        default=False,
        description="a context holds a random number of different examples, uniform from 1, repeated to fill the shots",
    )

    @classmethod
    def example(cls) -> Self:
        """Iris, four shots."""
        return cls(data=Bundled(name="iris"), ways=3, shots=4, queries=3, n_tasks=8)

    @property
    def inputs(self) -> int:
        """The width N_x of inputs.

        Raises:
            UserError: the data are wider than `width`.
        """
        features = self.data.rows(torch.device("cpu")).x.shape[1]
        if self.width is not None and self.width < features:
            raise UserError(f"width: {self.width} is too narrow for data of {features} numbers each")
        return self.width or features

    @property
    def spec(self) -> SupervisedSpec:
        """`ways` classes, or as many real targets.

        Raises:
            UserError: the data are wider than `width`.
            DataError: there are too few examples.
        """
        counts = self.data.rows(torch.device("cpu")).counts.sort().values
        fewest, needed = int(counts[: self.ways].sum()), self.shots + self.queries
        if fewest < needed:
            raise DataError(f"data: a task may have {fewest} examples only, and takes {needed} (shots + queries)")
        return SupervisedSpec(
            inputs=(self.inputs,),
            outputs=self.ways,
            shots=self.shots,
            queries=self.queries,
            target="real" if self.indicators else "class",
        )

    def sample(self, state: dict[str, Any], n: int, key: Key) -> Draw[Episode]:
        """Tasks by random numbers, and random examples of each."""
        keys = key.split(n)
        numbers = self.numbers(keys)
        return Draw(self.episodes(Numbers(numbers, numbers), keys), numbers)

    def numbers(self, keys: Key) -> Tensor:
        """A task's number for each key, `[task]` int64."""
        return keys.fold("number").randint(0, self.n_tasks or _WITHOUT_END)

    def episodes(self, numbers: Numbers, keys: Key) -> Episode:
        """Examples of the numbered tasks, drawn without replacement from all of a task's classes together."""
        rows, names = self.data.rows(keys.device), Key.of(self.seed, keys.device).fold("tasks")
        classes, slots = self._classes(len(rows.counts), names.fold("labels").fold(numbers.labels))
        counts = rows.counts[classes]  # [task, used class]
        ends = counts.cumsum(-1)
        chosen = self._shown(distinct(keys.fold("examples"), ends[:, -1], self.shots + self.queries), keys)
        which = torch.searchsorted(ends, chosen, right=True)
        first = rows.starts[classes] - (ends - counts)
        x, y = rows.x[chosen + first.gather(1, which)], slots.gather(1, which)
        x = self._projected(x, names.fold("projection").fold(numbers.projection))
        if self.indicators:
            y = (y.unsqueeze(-1) == torch.arange(self.ways, device=y.device)).to(x.dtype)
        (sx, qx), (sy, qy) = (torch.split(part, [self.shots, self.queries], 1) for part in (x, y))
        return Episode(*(part.contiguous() for part in (sx, sy, qx, qy)))  # as a checkpoint gives them back

    def _classes(self, there: int, keys: Key) -> tuple[Tensor, Tensor]:
        """The classes that each task uses and their slots, `[task, used class]`."""
        used = min(there, self.ways)
        classes = keys.fold("classes").permutation(there)[..., :used]
        return classes, keys.fold("slots").permutation(self.ways)[..., :used]

    def _projected(self, x: Tensor, keys: Key) -> Tensor:
        """`A x`; narrower data are as if padded with zeros, and scaled to the same length."""
        width, features = self.inputs, x.shape[-1]
        with torch.autocast(x.device.type, enabled=False):  # data are as exact in half-precision training
            projection = keys.normal(width, width)[..., :features] / math.sqrt(features)
            return x @ projection.mT

    def _shown(self, drawn: Tensor, keys: Key) -> Tensor:
        """Which of the drawn examples `[task, example]` each place shows: the context's may repeat."""
        if not self.vary:
            return drawn
        different = 1 + keys.fold("context").randint(0, self.shots)
        places = torch.arange(self.shots, device=keys.device) % different.unsqueeze(-1)
        return torch.cat([drawn.gather(1, places), drawn[:, self.shots :]], dim=1)


class BiasState(TypedDict):
    """What the curriculum has seen."""

    level: Tensor
    """A running mean of the loss on tasks without bias, over that of guessing."""
    biased: Tensor
    """Whether the bias is still there."""


class BiasedTasks(TaskFamily[Episode, BiasState]):
    """A share of all tasks has something in common, which shortens the plateau before learning to learn (section 4).

    What is fixed is the permutation of labels, while projections stay random (the paper's intervention), or the whole
    task (a control). With `drop_below` this is a curriculum: once the loss on the other tasks is down to that share of
    guessing's, all tasks are drawn freely. `tag` is 1 for tasks with bias.
    """

    tasks: RandomProjectionTasks = Field(default=RandomProjectionTasks(), description="where tasks come from")
    fraction: float = Field(default=0.9, ge=0, le=1, description="share of tasks with bias")
    fixed: Literal["labels", "task"] = Field(default="labels", description="what these have in common")
    drop_below: float | None = Field(default=None, gt=0, description="loss over that of guessing; None: never")
    memory: float = Field(default=0.95, ge=0, lt=1, description="weight of the past in the running mean of that loss")

    @classmethod
    def example(cls) -> Self:
        """Iris, and a bias that goes."""
        return cls(tasks=RandomProjectionTasks.example(), fraction=0.5, drop_below=0.9)

    @property
    def spec(self) -> SupervisedSpec:
        """The tasks' own."""
        return self.tasks.spec

    def begin(self, key: Key) -> BiasState:
        """Biased, nothing seen."""
        return BiasState(level=torch.ones((), device=key.device), biased=torch.ones((), device=key.device))

    def sample(self, state: BiasState, n: int, key: Key) -> Draw[Episode]:
        """Tasks as they are, but for the share that is fixed."""
        keys = key.split(n)
        numbers = self.tasks.numbers(keys)
        hit = keys.fold("bias").uniform() < self.fraction * state["biased"]
        fixed = torch.where(hit, FIXED, numbers)
        projection = fixed if self.fixed == "task" else numbers
        return Draw(self.tasks.episodes(Numbers(projection, fixed), keys), hit.long())

    def observe(self, state: BiasState, draw: Draw[Episode], outcome: Outcome) -> BiasState:
        """Follow the loss on tasks without bias."""
        if self.drop_below is None:
            return state
        assert draw.tag is not None
        free = (draw.tag == 0).to(outcome.loss.dtype)
        loss = (outcome.loss.detach() * free).sum() / free.sum().clamp(min=1) / math.log(self.tasks.ways)
        level = torch.where(free.sum() > 0, self.memory * state["level"] + (1 - self.memory) * loss, state["level"])
        return BiasState(level=level, biased=state["biased"] * (level >= self.drop_below))
