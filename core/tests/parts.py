"""Components that reach into every corner of the core: noise everywhere, lives that differ, states of every kind."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple

import torch
from metaloop import tree
from metaloop.engine import Engine
from metaloop.key import Key
from metaloop.learner import Learner, PerObject, PerTask
from metaloop.objective import TaskObjective
from metaloop.outcome import Clock, Draw, Outcome, outcome
from metaloop.specs import ObjectiveSpec, Spec, TextSpec
from metaloop.tasks import AnyTaskFamily, TaskFamily
from metaloop.testing.toys import Letters, Walker, Words
from torch import Tensor
from torch.func import grad

Theta = dict[str, Tensor]


class Level(NamedTuple):
    center: Tensor  # [task, 2]
    allowed: Tensor  # [task]


class Levels(TaskFamily[Level, dict[str, Tensor]]):
    """A curriculum whose state grows: it remembers every life that ended, and what comes next depends on that."""

    levels: int = 7
    longest: int = 4
    size_known: bool = False

    @property
    def spec(self) -> Spec:
        return ObjectiveSpec(dimension=2)

    @property
    def size(self) -> int | None:
        return self.levels if self.size_known else None

    def begin(self, key: Key) -> dict[str, Tensor]:
        none = torch.zeros(0, dtype=torch.int64, device=key.device)
        return {"world": key.fold("world").normal(2), "level": none, "score": none.to(torch.get_default_dtype())}

    def sample(self, state: dict[str, Tensor], n: int, key: Key) -> Draw[Level]:
        if n == self.size:
            level = torch.arange(n, device=key.device)
        else:
            level = (key.split(n).randint(0, self.levels) + len(state["level"])) % self.levels
        center = state["world"] + torch.stack([torch.sin(level * 1.0), torch.cos(level * 2.0)], -1)
        return Draw(Level(center, 1 + level % self.longest), level)

    def observe(self, state: dict[str, Tensor], draw: Draw[Level], outcome: Outcome) -> dict[str, Tensor]:
        assert draw.tag is not None
        ended = torch.ones_like(draw.tag, dtype=torch.bool) if outcome.done is None else outcome.done
        score = outcome.score.detach()[ended].to(state["score"].dtype)
        return state | {
            "level": torch.cat([state["level"], draw.tag[ended]]),
            "score": torch.cat([state["score"], score]),
        }


class Drift(PerTask[Theta, Level, list[Tensor]]):
    """Noisy descent with momentum for as long as a level allows. The state is a list of two tensors."""

    steps: int = 4
    everyone: int | None = None
    """Lifetime of every task; None: what it allows."""

    def check(self, spec: Spec) -> None:
        assert isinstance(spec, ObjectiveSpec)

    def init(self, spec: Spec, key: Key) -> Theta:
        return {"start": key.normal(2), "decay": torch.tensor(0.5, dtype=torch.get_default_dtype())}

    def lifetime(self, tasks: Level) -> int | Tensor:
        return tasks.allowed if self.everyone is None else self.everyone

    def begin_one(self, theta: Theta, task: Level, key: Key) -> list[Tensor]:
        return [theta["start"] + 0.1 * key.normal(2), torch.zeros_like(theta["start"])]

    def step_one(self, theta: Theta, state: list[Tensor], task: Level, clock: Clock, key: Key) -> list[Tensor]:
        x, momentum = state
        slope = grad(lambda x: ((x - task.center) ** 2).sum())(x)
        momentum = theta["decay"] * momentum + slope + 0.3 * key.normal(2)
        return [x - 0.1 * (1.5 - clock.fraction) * momentum, momentum]

    def evaluate_one(self, theta: Theta, state: list[Tensor], task: Level, key: Key) -> Outcome:
        loss = ((state[0] + 0.1 * key.normal(2) - task.center) ** 2).sum() + theta["decay"] ** 2
        return outcome(loss=loss, metrics={"near": loss < 1, "steps": task.allowed})

    def adapted(self, theta: Theta, state: list[Tensor]) -> Theta:
        return {"start": state[0], "decay": theta["decay"].expand(len(state[0]))}


class InPlace(Learner[Theta, Level, dict[str, Tensor]]):
    """Changes its state in place, which a learner may."""

    steps: int = 3
    varied: bool = False
    """Whether lives are as long as levels allow."""

    def check(self, spec: Spec) -> None:
        assert isinstance(spec, ObjectiveSpec)

    def init(self, spec: Spec, key: Key) -> Theta:
        return {"start": key.normal(2), "rate": torch.full((), 0.1)}

    def lifetime(self, tasks: Level) -> int | Tensor:
        return tasks.allowed if self.varied else self.steps

    def begin(self, theta: Theta, tasks: Level, keys: Key) -> dict[str, Tensor]:
        return {"x": theta["start"] + 0 * tasks.center, "trace": torch.zeros_like(tasks.center) + 0 * theta["start"]}

    def step(self, theta: Theta, state: dict[str, Tensor], tasks: Level, clock: Clock, keys: Key) -> dict[str, Tensor]:
        state["trace"] = state["trace"] + state["x"] - tasks.center + 0.1 * keys.normal(2)
        state["x"].sub_(theta["rate"] * state["trace"])
        return state

    def evaluate(self, theta: Theta, state: dict[str, Tensor], tasks: Level, keys: Key) -> Outcome:
        return outcome(loss=((state["x"] - tasks.center) ** 2).sum(-1))


class Solid(InPlace):
    """The same without changing anything in place."""

    def step(self, theta: Theta, state: dict[str, Tensor], tasks: Level, clock: Clock, keys: Key) -> dict[str, Tensor]:
        trace = state["trace"] + state["x"] - tasks.center + 0.1 * keys.normal(2)
        return {"x": state["x"] - theta["rate"] * trace, "trace": trace}


class Lone(Solid):
    """Says that it can't run under stacked thetas."""

    stackable: ClassVar[bool] = False


class Diary(PerObject[Any, Letters, dict[str, Any]]):
    """The state holds a live object beside plain values that grow."""

    theta_kind: ClassVar[Literal["tensors", "object", "none"]] = "none"
    steps: int = 4
    varied: bool = False

    def check(self, spec: Spec) -> None:
        assert isinstance(spec, TextSpec)

    def lifetime(self, tasks: list[Letters]) -> int | Tensor:
        if not self.varied:
            return self.steps
        return torch.tensor([1 + ord(task["word"][0]) % self.steps for task in tasks])

    def begin_one(self, theta: Any, task: Letters, key: Key) -> dict[str, Any]:
        return {"walker": Walker("a" * len(task["word"])), "log": [], "best": None}

    def step_one(self, theta: Any, state: dict[str, Any], task: Letters, clock: Clock, key: Key) -> dict[str, Any]:
        letter = "abcdefgh"[int(key.randint(0, 8))]
        state["walker"].word = state["walker"].word[1:] + letter
        state["log"].append((int(clock.step), letter))
        state["best"] = max(state["best"] or 0.0, float(key.uniform()))
        return state

    def evaluate_one(self, theta: Any, state: dict[str, Any], task: Letters, key: Key) -> Outcome:
        wrong = sum(a != b for a, b in zip(state["walker"].word, task["word"], strict=True))
        return outcome(fitness=-float(wrong) - 0.01 * float(key.uniform()), info=[state["walker"].word])


class Archive:
    """A live object for a whole batch."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def state_dict(self) -> dict[str, Any]:
        return {"found": list(self.found)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.found = list(state["found"])


class Explorer(Learner[Any, Level, dict[str, Any]]):
    """Explores with one archive for the whole batch: live objects and plain values in a batch's state."""

    differentiable: ClassVar[bool] = False
    stackable: ClassVar[bool] = False
    theta_kind: ClassVar[Literal["tensors", "object", "none"]] = "none"
    steps: int = 4

    def check(self, spec: Spec) -> None:
        assert isinstance(spec, ObjectiveSpec)

    def begin(self, theta: Any, tasks: Level, keys: Key) -> dict[str, Any]:
        return {"archive": Archive(), "x": torch.zeros_like(tasks.center), "note": "begun"}

    def step(self, theta: Any, state: dict[str, Any], tasks: Level, clock: Clock, keys: Key) -> dict[str, Any]:
        state["x"].add_(keys.normal(2))
        state["archive"].found.append(float(state["x"].norm()))
        return state | {"note": f"{len(state['archive'].found)} found"}

    def evaluate(self, theta: Any, state: dict[str, Any], tasks: Level, keys: Key) -> Outcome:
        best = max(state["archive"].found, default=0.0)
        return outcome(fitness=best - ((state["x"] - tasks.center) ** 2).sum(-1))


def objective(
    learner: Any, n: int = 6, *, family: AnyTaskFamily | None = None, state: Any = None, seed: int = 0, **engine: Any
) -> TaskObjective[Any]:
    """The core's objective over `n` tasks of a family whose state is `state`, by default as it begins."""
    family = family or (Words() if isinstance(learner, PerObject) else Levels())
    state = family.begin(Key.of(9)) if state is None else state
    return TaskObjective(Engine(learner, **engine), family, state, n, Key.of(seed).fold("objective"))


def thetas_for(learner: Any, count: int | None = None) -> Any:
    """A theta, or `count` of them stacked."""
    spec = ObjectiveSpec(dimension=2)
    if count is None:
        return learner.init(spec, Key.of(5))
    return tree.stack([learner.init(spec, Key.of(5).fold(i)) for i in range(count)])


def same(one: Any, other: Any, tolerance: float = 0.0) -> None:
    """Equal structure, and equal tensors up to the tolerance."""
    torch.testing.assert_close(tree.leaves(one), tree.leaves(other), rtol=tolerance, atol=tolerance, check_dtype=True)
