"""What a meta-optimizer sees of the inner loop: a function of theta over one draw of tasks.

The core makes it, so that the core decides what is compiled, how tasks are chunked, what is counted and where object
tasks run. Every call on one objective sees the same tasks and keys (common random numbers); `fresh` gives others.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor
from torch.func import grad, vmap

from metaloop import tree
from metaloop.engine import Engine, Meter, batch_of_one, first, slope
from metaloop.errors import Incompatible, UserError
from metaloop.key import Key
from metaloop.learner import Adapts, AnyLearner, PerObject, from_rows, per_task, to_rows
from metaloop.outcome import Budget, Carry, Clock, Draw, Measure, Outcome
from metaloop.population import lives
from metaloop.ranks import is_split, split
from metaloop.skeleton import Live, is_live, revive
from metaloop.tasks import AnyTaskFamily

Theta = TypeVar("Theta")


class Objective(Protocol[Theta]):
    """The inner loop as a function of theta, over `n` tasks."""

    n: int
    learner: AnyLearner

    @property
    def spent(self) -> Budget:
        """Evaluations and inner steps of the whole experiment so far."""
        ...

    def __call__(self, theta: Theta) -> Outcome:
        """Whole lives under theta: rows `[task]`; not differentiated."""
        ...

    def grad(self, theta: Theta) -> tuple[Theta, Outcome]:
        """The gradient of the mean loss, and the outcome `[task]`."""
        ...

    def adapt(self, theta: Theta) -> tuple[Theta, Outcome]:
        """Adapted thetas, leaves `[task, ...]`; needs a learner that `Adapts`."""
        ...

    def many(self, thetas: Any, *, each: bool = False, chunk: int | None = None) -> Outcome:
        """A population: stacked thetas (leaves `[P, ...]`), or a sequence of P objects.

        All candidates on all tasks, rows `[P, task]`; with `each` candidate i on task i alone, rows `[task]`.
        `chunk` candidates at a time where memory is short.
        """
        ...

    def unroll(
        self, theta: Theta, carry: Any | None, k: int, *, each: bool = False, measure: Measure = "each"
    ) -> tuple[Outcome, Any]:
        """`k` inner steps on from `carry` (None: new lives); lives that ended are replaced by new ones first.

        The loss is the mean over evaluations after each inner step (`measure="each"`) or the last one's (`"end"`).
        Equal carries see equal tasks and noise; the given carry stays usable.
        """
        ...

    def unroll_grad(
        self, theta: Theta, carry: Any | None, k: int, *, measure: Measure = "each"
    ) -> tuple[Theta, Outcome, Any]:
        """The gradient through `k` inner steps (truncated), the outcome and the carry, detached."""
        ...

    def init(self, key: Key) -> Theta:
        """A first theta, as the experiment drew its own: other individuals of a population, restarts."""
        ...

    def fresh(self, name: str, n: int | None = None) -> Objective[Theta]:
        """The same problem on other tasks, from the same budget: elites, validation, line search."""
        ...


class TaskObjective(Generic[Theta]):
    """The core's objective: a family's tasks under a learner."""

    def __init__(
        self, engine: Engine, family: AnyTaskFamily, family_state: Any, n: int, key: Key, meter: Meter | None = None
    ) -> None:
        """Tasks are drawn when first needed: methods that keep lives in a carry never need them."""
        self.n = n
        self.learner = engine.learner
        self._engine, self._family, self._family_state = engine, family, family_state
        self._key, self._meter = key, meter or Meter()
        self._drawn: Draw[Any] | None = None
        self._carried: Draw[Any] | None = None

    @property
    def spent(self) -> Budget:
        """Evaluations and inner steps of the whole experiment so far."""
        return self._meter.spent

    @property
    def draw(self) -> Draw[Any]:
        """This objective's tasks."""
        if self._drawn is None:
            self._drawn = self._family.sample(self._family_state, self.n, self._key.fold("tasks"))
        return self._drawn

    @property
    def observed(self) -> Draw[Any]:
        """The draw that outcomes are about: the carry's rows where lives were unrolled."""
        return self.draw if self._carried is None else self._carried

    @property
    def _keys(self) -> Key:
        key = self._key.fold("lives")
        return key.fold(torch.arange(self.n, device=key.device))  # `key.split(n)`, but nothing is computed yet

    def _count(self, tasks: Any, candidates: int = 1) -> None:
        lifetime = self.learner.lifetime(tasks)
        n = tree.length(tasks)
        total = lifetime * n if isinstance(lifetime, int) else int(lifetime.sum())
        self._meter.count(n * candidates, total * candidates)

    def __call__(self, theta: Theta) -> Outcome:
        """Whole lives under theta."""
        self._count(self.draw.tasks)
        return self._engine.live(theta, self.draw.tasks, self._keys)

    def grad(self, theta: Theta) -> tuple[Theta, Outcome]:
        """The gradient of the mean loss, and the outcome."""
        self._count(self.draw.tasks)
        return self._engine.grad(theta, self.draw.tasks, self._keys)

    def adapt(self, theta: Theta) -> tuple[Theta, Outcome]:
        """Adapted thetas, leaves `[task, ...]`."""
        learner = self.learner
        if not isinstance(learner, Adapts):
            raise Incompatible(f"{type(learner).__name__} does not say what an adapted theta is (no `adapted` method)")
        self._count(self.draw.tasks)

        def part(tasks: Any, keys: Key) -> Any:
            out, state = learner.live(theta, tasks, keys)
            return (), (learner.adapted(theta, state), to_rows(out)), out.info

        with torch.no_grad():
            _, (adapted, rows), info = split(part, self.draw.tasks, self._keys)
            return adapted, from_rows(rows)._replace(info=info)

    def many(self, thetas: Any, *, each: bool = False, chunk: int | None = None) -> Outcome:
        """A population on all tasks, or candidate i on task i."""
        tasks, keys = self.draw.tasks, self._keys
        count = tree.length(thetas)
        if each:
            self._expect_one_each(count)
        self._count(tasks, 1 if each else count)
        if self.learner.theta_kind == "tensors" and self.learner.stackable:
            stacked = thetas if isinstance(thetas, dict) else tree.stack(thetas)
            return self._engine.many(stacked, tasks, keys, each, chunk)
        return lives(self._engine, thetas, tasks, keys, each)

    def _expect_one_each(self, count: int) -> None:
        if count != self.n:
            raise ValueError(
                f"each=True takes a candidate for every task, but there are {count} candidates, {self.n} tasks"
            )

    def unroll(
        self, theta: Theta, carry: Any | None, k: int, *, each: bool = False, measure: Measure = "each"
    ) -> tuple[Outcome, Any]:
        """`k` inner steps on from `carry`."""
        if each:
            if not (self.learner.theta_kind == "tensors" and self.learner.stackable):
                raise Incompatible(f"{type(self.learner).__name__} can't run under a theta of its own for every task")
            self._expect_one_each(tree.length(theta))
        with torch.no_grad():
            before = self._reborn(theta, carry, each)
            if carry is not None:
                before = before._replace(state=self._copied(theta, before))
            if each:
                out, after = self._window_each(theta, before, k, measure)
            else:
                out, after = self._window(theta, before, k, measure)
        self._note(before, after, 1 if measure == "end" else max(k, 1))
        return out, after

    def carry_on(
        self, theta: Theta, carry: Any | None, *, judge: bool, whole: bool = False
    ) -> tuple[Outcome | None, Any]:
        """One inner step of lives that nobody else needs: the carry is consumed. Evaluated if `judge` or a life ends.

        For experiments without a meta-optimizer. Where the tasks are the `whole` of a finite family, lives that ended
        stay as they are: there is no other task to begin.
        """
        with torch.no_grad():
            before = carry if whole and carry is not None else self._reborn(theta, carry, each=False)
            shortest, longest = map(int, (before.clock.lifetime - before.clock.step).aminmax())
            k, all_alive = min(max(longest, 0), 1), shortest > 0
            out, after = self._engine.window(theta, before, k, "end" if judge else "ended", all_alive=all_alive)
        self._note(before, after, int(out is not None))
        return out, after

    def unroll_grad(
        self, theta: Theta, carry: Any | None, k: int, *, measure: Measure = "each"
    ) -> tuple[Theta, Outcome, Any]:
        """The truncated gradient through `k` inner steps."""
        with torch.no_grad():
            carry = self._reborn(theta, carry, each=False)

        engine = self._engine  # not self: a compiled function outlives this objective
        all_alive = self._all_last(carry, k)

        def loss(theta: Any, tasks: Any, state: Any, clock: Clock, keys: Tensor, born: Tensor) -> Any:
            state = tree.clone(state)  # inside the trace: a step in place on a tensor from outside loses its gradient
            if born.numel():  # again inside the trace: theta's part in how lives begin has a gradient too
                begun = engine.learner.begin(theta, tree.index(tasks, born), Key(keys[born]).fold("begin"))
                state = tree.put(state, born, begun)
            before = Carry(Draw(tasks), state, clock, Key(keys))
            out, after = engine.window(theta, before, k, measure, all_alive=all_alive)
            return out.loss.mean(), (to_rows(out), out.done, after.state, after.clock)

        compiled = engine.compiled
        run: Callable[..., Any] = partial(slope, loss)
        if compiled.enabled:
            run = compiled(grad(loss, has_aux=True), f"unroll {k} {measure}")

        def part(tasks: Any, states: tuple[Any], clock: Clock, keys: Tensor) -> Any:
            born = (clock.step == 0).nonzero().squeeze(1)
            return *run(theta, tasks, *states, clock, keys, born), None

        gradient, (rows, done, state, clock), _ = split(part, *_rows(carry))
        after = Carry(carry.draw, tree.detach(state), clock, carry.keys)
        self._note(carry, after, 1 if measure == "end" else max(k, 1))
        return gradient, from_rows(tree.detach(rows))._replace(done=done), after

    def init(self, key: Key) -> Theta:
        """A first theta."""
        theta: Theta = self.learner.init(self._family.spec, key)
        return theta

    def fresh(self, name: str, n: int | None = None) -> TaskObjective[Theta]:
        """The same problem on other tasks."""
        key = self._key.fold("fresh", name)
        return TaskObjective(self._engine, self._family, self._family_state, n or self.n, key, self._meter)

    def _all_last(self, carry: Carry[Any, Any], k: int) -> bool:
        """Whether no life ends before the last of `k` steps: then nothing is masked and no state copied for it."""
        if self._engine.compiled.enabled:  # one compiled function for both cases
            return False
        return bool((carry.clock.lifetime - carry.clock.step >= k).all())

    def _note(self, before: Carry[Any, Any], after: Carry[Any, Any], evaluations: int) -> None:
        steps = int((after.clock.step - before.clock.step).sum())
        self._meter.count(evaluations * self.n, steps)
        self._carried = after.draw

    def _birth(self, theta: Any, draw: Draw[Any], keys: Key, each: bool) -> Carry[Any, Any]:
        n = tree.length(draw.tasks)
        clock = Clock(
            torch.zeros(n, dtype=torch.int64, device=keys.device),
            per_task(self.learner.lifetime(draw.tasks), n, keys.device),
        )
        begin = keys.fold("begin")
        if not each:
            return Carry(draw, self.learner.begin(theta, draw.tasks, begin), clock, keys)

        def alone(theta: Any, task: Any, key: Tensor) -> Any:
            return first(self.learner.begin(theta, batch_of_one(task), Key(key[None])))

        return Carry(draw, vmap(alone)(theta, draw.tasks, begin.data), clock, keys)

    def _reborn(self, theta: Any, carry: Carry[Any, Any] | None, each: bool) -> Carry[Any, Any]:
        """Replace the lives that ended, sampling only as many tasks as ended."""
        if carry is None:
            return self._birth(theta, self.draw, self._keys, each)
        ended = (carry.clock.step >= carry.clock.lifetime).nonzero().squeeze(1)
        if len(ended) == 0:
            return carry
        draw = self._family.sample(self._family_state, len(ended), self._key.fold("reborn"))
        mine = tree.index(theta, ended) if each else theta
        new = self._birth(mine, draw, self._key.fold("lives-reborn").split(len(ended)), each)
        if len(ended) == tree.length(carry.draw.tasks):
            return new
        return _put(carry, ended, new, a_state_each=isinstance(self.learner, PerObject))

    def _copied(self, theta: Any, carry: Carry[Any, Any]) -> Any:
        """A copy of the lives' states: steps consume what they are given, and the caller's carry stays usable."""
        leaves = tree.leaves(carry.state)
        if not any(map(is_live, leaves)):
            return tree.tree_map(
                lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else copy.deepcopy(leaf), carry.state
            )
        stored = tree.tree_map(_stored, carry.state)
        return revive(stored, self.learner.begin(theta, carry.draw.tasks, carry.keys.fold("begin")))

    def _window(self, theta: Any, carry: Carry[Any, Any], k: int, measure: Measure) -> tuple[Outcome, Carry[Any, Any]]:
        all_alive = self._all_last(carry, k)
        if not is_split():
            return self._engine.window(theta, carry, k, measure, all_alive=all_alive)

        def part(tasks: Any, states: tuple[Any], clock: Clock, keys: Tensor) -> Any:
            mine = Carry(Draw(tasks), *states, clock, Key(keys))
            out, after = self._engine.window(theta, mine, k, measure, all_alive=all_alive)
            return (), (to_rows(out), out.done, after.state, after.clock), out.info

        _, (rows, done, state, clock), info = split(part, *_rows(carry))
        return from_rows(rows)._replace(done=done, info=info), Carry(carry.draw, state, clock, carry.keys)

    def _window_each(
        self, thetas: Any, carry: Carry[Any, Any], k: int, measure: Measure
    ) -> tuple[Outcome, Carry[Any, Any]]:
        engine = self._engine
        all_alive = self._all_last(carry, k)

        def alone(theta: Any, task: Any, state: Any, clock: Clock, key: Tensor) -> Any:
            one = Carry(Draw(batch_of_one(task)), batch_of_one(state), batch_of_one(clock), Key(key[None]))
            out, after = engine.window(theta, one, k, measure, all_alive=all_alive)
            return first((to_rows(out), out.done, after.state, after.clock))

        run = engine.compiled(vmap(alone), f"unroll each {k} {measure}")

        def part(thetas: Any, tasks: Any, states: tuple[Any], clock: Clock, keys: Tensor) -> Any:
            return (), run(thetas, tasks, *states, clock, keys), None

        _, (rows, done, state, clock), _ = split(part, thetas, *_rows(carry))
        return from_rows(rows)._replace(done=done), Carry(carry.draw, state, clock, carry.keys)


def _rows(carry: Carry[Any, Any]) -> tuple[Any, tuple[Any], Clock, Tensor]:
    """What a window takes of its lives: tasks, state (in a tuple, for a list has a row in each entry), clock and keys.

    Raises:
        UserError: they are to be split over ranks, and the state has no row for each task.
    """
    n = len(carry.clock.step)
    if is_split() and not all(isinstance(leaf, Tensor) and leaf.shape[:1] == (n,) for leaf in tree.leaves(carry.state)):
        raise UserError(
            "lives that go on over several steps can be split over ranks only where a learner's state is tensors with "
            "a row for each task: run this without torchrun"
        )
    return carry.draw.tasks, (carry.state,), carry.clock, carry.keys.data


def _stored(leaf: Any) -> Any:
    """A copy of a leaf that does not change with it, a `Live` for a live object."""
    return Live(type(leaf).__name__, copy.deepcopy(leaf.state_dict())) if is_live(leaf) else copy.deepcopy(leaf)


def _put(carry: Carry[Any, Any], rows: Tensor, new: Carry[Any, Any], a_state_each: bool) -> Carry[Any, Any]:
    """The carry with rows `[n]` replaced; `a_state_each`: the state is a list with one entry per task."""
    tasks, state = carry.draw.tasks, carry.state
    draw = Draw(
        (_put_items if isinstance(tasks, list) else tree.put)(tasks, rows, new.draw.tasks),
        None if carry.draw.tag is None else tree.put(carry.draw.tag, rows, new.draw.tag),
    )
    return Carry(
        draw,
        (_put_items if a_state_each else tree.put)(state, rows, new.state),
        tree.put(carry.clock, rows, new.clock),
        Key(tree.put(carry.keys.data, rows, new.keys.data)),
    )


def _put_items(old: list[Any], rows: Tensor, new: list[Any]) -> list[Any]:
    values = list(old)
    for position, value in zip(rows.tolist(), new, strict=True):
        values[position] = value
    return values
