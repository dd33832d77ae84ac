"""Small real components of every kind, to try compositions with.

Tensor tasks: `Quadratics` (minimise) and `Lines` (regress); object tasks: `Words`. `Revisits` is a curriculum around
any of them. Offer them all by id with `plugins.registered(TOYS)`.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import grad

from metaloop import functional, tree
from metaloop.errors import Incompatible
from metaloop.key import Key
from metaloop.learner import Learner, PerObject, PerTask
from metaloop.manifest import Part, Plugin
from metaloop.outcome import Clock, Episode, Outcome, outcome
from metaloop.specs import ObjectiveSpec, Spec, SupervisedSpec, TextSpec
from metaloop.testing.toy_tasks import ALPHABET, Letters, Lines, Quadratic, Quadratics, Revisits, Words, height

__all__ = [
    "ALPHABET",
    "TOYS",
    "Climb",
    "Descent",
    "Fit",
    "Guess",
    "Lines",
    "Lives",
    "NoisyDescent",
    "Quadratic",
    "Quadratics",
    "Revisits",
    "Text",
    "Walker",
    "Words",
]

Theta = dict[str, Tensor]


class Descent(PerTask[Theta, Quadratic, Tensor]):
    """Gradient descent whose start and learning rate are learned; the state is the point x."""

    steps: int = Field(default=3, ge=0, description="inner steps of one adaptation")
    lr: float = Field(default=0.05, gt=0.0, description="first learning rate")

    def check(self, spec: Spec) -> None:
        """Functions to minimise only."""
        if not isinstance(spec, ObjectiveSpec):
            raise Incompatible(f"{type(self).__name__} minimises functions; {type(spec).__name__} has none")

    def init(self, spec: Spec, key: Key) -> Theta:
        """`start` `[dimension]` near zero and the scalar `log_lr`."""
        assert isinstance(spec, ObjectiveSpec)
        lr = torch.tensor(self.lr, dtype=torch.get_default_dtype(), device=key.device)
        return {"start": 0.1 * key.normal(spec.dimension), "log_lr": lr.log()}

    def begin_one(self, theta: Theta, task: Quadratic, key: Key) -> Tensor:
        """The learned start."""
        return theta["start"]

    def step_one(self, theta: Theta, state: Tensor, task: Quadratic, clock: Clock, key: Key) -> Tensor:
        """One step downhill."""
        slope: Tensor = grad(height)(state, task)
        return state - theta["log_lr"].exp() * slope

    def evaluate_one(self, theta: Theta, state: Tensor, task: Quadratic, key: Key) -> Outcome:
        """The height reached, and the distance to the bottom."""
        loss = height(state, task)
        return outcome(loss=loss, metrics={"squared_distance": loss.detach()})

    def adapted(self, theta: Theta, state: Tensor) -> Theta:
        """The point reached is the adapted start."""
        return {"start": state, "log_lr": theta["log_lr"].expand(len(state))}


class NoisyDescent(Descent):
    """Gradient descent that is jostled at every step and judged with noise."""

    noise: float = Field(default=0.05, ge=0.0, description="standard deviation of each step's noise")

    def step_one(self, theta: Theta, state: Tensor, task: Quadratic, clock: Clock, key: Key) -> Tensor:
        """One step downhill with the step's own noise."""
        return super().step_one(theta, state, task, clock, key) + self.noise * key.normal(*state.shape)

    def evaluate_one(self, theta: Theta, state: Tensor, task: Quadratic, key: Key) -> Outcome:
        """The height reached, measured with noise."""
        return outcome(loss=height(state + self.noise * key.normal(*state.shape), task))


class Lives(NoisyDescent):
    """Noisy descent for as many steps as each task allows."""

    def lifetime(self, tasks: Quadratic) -> Tensor:
        """`[task]`: the allowed steps, `steps` at most."""
        return tasks.allowed.clamp(max=self.steps)


class Guess(Learner[Theta, Quadratic, Tensor]):
    """Guess near the best point so far: written over a batch, and neither differentiable nor stackable."""

    differentiable: ClassVar[bool] = False
    stackable: ClassVar[bool] = False

    steps: int = Field(default=3, ge=0, description="guesses")

    def check(self, spec: Spec) -> None:
        """Functions to minimise only."""
        if not isinstance(spec, ObjectiveSpec):
            raise Incompatible(f"Guess minimises functions; {type(spec).__name__} has none")

    def init(self, spec: Spec, key: Key) -> Theta:
        """`start` `[dimension]`."""
        assert isinstance(spec, ObjectiveSpec)
        return {"start": 0.1 * key.normal(spec.dimension)}

    def begin(self, theta: Theta, tasks: Quadratic, keys: Key) -> Tensor:
        """The start for every task, `[task, dimension]`."""
        return theta["start"].expand_as(tasks.center).clone()

    def step(self, theta: Theta, state: Tensor, tasks: Quadratic, clock: Clock, keys: Key) -> Tensor:
        """Keep the guess where it is better."""
        guess = state + 0.3 * keys.normal(state.shape[-1])
        return tree.where(height(guess, tasks) < height(state, tasks), guess, state)

    def evaluate(self, theta: Theta, state: Tensor, tasks: Quadratic, keys: Key) -> Outcome:
        """The heights reached."""
        return outcome(loss=height(state, tasks))


class Fit(PerTask[Theta, Episode, Theta]):
    """MAML on one linear layer: theta and state are the layer's parameters."""

    steps: int = Field(default=2, ge=0, description="inner steps of one adaptation")
    lr: float = Field(default=0.1, gt=0.0, description="inner learning rate")

    @cached_property
    def module(self) -> nn.Module:
        """A line."""
        return functional.skeleton(self._make)

    def _make(self) -> nn.Module:
        return nn.Linear(1, 1)

    def check(self, spec: Spec) -> None:
        """Regression from one number to one number."""
        if not (isinstance(spec, SupervisedSpec) and (spec.inputs, spec.outputs, spec.target) == ((1,), 1, "real")):
            raise Incompatible("Fit draws lines through points (x, y), so inputs=(1,), outputs=1 and real targets")

    def init(self, spec: Spec, key: Key) -> Theta:
        """The layer's own initialisation."""
        return functional.parameters(self._make, key)

    def begin_one(self, theta: Theta, task: Episode, key: Key) -> Theta:
        """The learned layer."""
        return theta

    def step_one(self, theta: Theta, state: Theta, task: Episode, clock: Clock, key: Key) -> Theta:
        """One step down the support set's squared error."""
        slope = grad(self._error)(state, task.support_x, task.support_y)
        return {name: value - self.lr * slope[name] for name, value in state.items()}

    def evaluate_one(self, theta: Theta, state: Theta, task: Episode, key: Key) -> Outcome:
        """The query set's squared error."""
        return outcome(loss=self._error(state, task.query_x, task.query_y))

    def _error(self, parameters: Theta, x: Tensor, y: Tensor) -> Tensor:
        error: Tensor = ((functional.call(self.module, parameters, x) - y) ** 2).mean()
        return error

    def adapted(self, theta: Theta, state: Theta) -> Theta:
        """The state is a theta."""
        return state

    def predict(self, theta: Theta, state: Theta, inputs: Tensor, keys: Key) -> Tensor:
        """Outputs `[task, n, 1]` at inputs `[task, n, 1]`."""
        outputs: Tensor = torch.func.vmap(lambda p, x: functional.call(self.module, p, x))(state, inputs)
        return outputs


class Walker:
    """A live object: a word that is changed letter by letter."""

    def __init__(self, word: str) -> None:
        self.word = word

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"word": self.word}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a stored word."""
        self.word = state["word"]


class Climb(PerObject[Any, Letters, Walker]):
    """Hill climbing to a hidden word by changing one letter at a time; nothing is meta-learned."""

    theta_kind: ClassVar[Literal["tensors", "object", "none"]] = "none"

    steps: int = Field(default=6, ge=0, description="changes tried")

    def check(self, spec: Spec) -> None:
        """Checkable text only."""
        if not (isinstance(spec, TextSpec) and spec.checkable):
            raise Incompatible(f"{type(self).__name__} needs text tasks whose answers can be checked")

    def begin_one(self, theta: Any, task: Letters, key: Key) -> Walker:
        """A word of the first letter only."""
        return Walker(ALPHABET[0] * len(task["word"]))

    def step_one(self, theta: Any, state: Walker, task: Letters, clock: Clock, key: Key) -> Walker:
        """Try another letter somewhere; keep it where it is nearer."""
        place = int(key.fold("place").randint(0, len(task["word"])))
        letter = ALPHABET[int(key.fold("letter").randint(0, len(ALPHABET)))]
        other = state.word[:place] + letter + state.word[place + 1 :]
        if _distance(other, task["word"]) <= _distance(state.word, task["word"]):
            state.word = other
        return state

    def evaluate_one(self, theta: Any, state: Walker, task: Letters, key: Key) -> Outcome:
        """Minus the distance in letters; the word itself as info."""
        distance = _distance(state.word, task["word"])
        return outcome(fitness=-float(distance), metrics={"solved": float(distance == 0)}, info=[state.word])


class Text(Climb):
    """Hill climbing from a learned word: theta is a string."""

    theta_kind: ClassVar[Literal["tensors", "object", "none"]] = "object"

    letters: int = Field(default=3, ge=1, description="length of the learned word")

    def init(self, spec: Spec, key: Key) -> str:
        """A random word."""
        return "".join(ALPHABET[i] for i in key.randint(0, len(ALPHABET), self.letters).tolist())

    def begin_one(self, theta: str, task: Letters, key: Key) -> Walker:
        """The learned word, cut or filled to the task's length."""
        return Walker(theta[: len(task["word"])].ljust(len(task["word"]), ALPHABET[0]))


def _distance(one: str, other: str) -> int:
    """How far apart the letters are in the alphabet, summed."""
    return sum(abs(ALPHABET.index(a) - ALPHABET.index(b)) for a, b in zip(one, other, strict=True))


FAMILIES = (Quadratics, Lines, Words, Revisits)
LEARNERS = (Descent, NoisyDescent, Lives, Guess, Fit, Climb, Text)
TOYS = Plugin(
    "toys",
    "small real components to try compositions with",
    components=(
        *(Part(f"toys/{cls.__name__.lower()}", "tasks", f"{cls.__module__}:{cls.__name__}") for cls in FAMILIES),
        *(Part(f"toys/{cls.__name__.lower()}", "learner", f"{cls.__module__}:{cls.__name__}") for cls in LEARNERS),
    ),
)
"""All of them as a plugin that is not installed."""
