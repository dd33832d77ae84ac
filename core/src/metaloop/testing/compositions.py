"""Every installed part's `example()` beside every other's that it says it fits; `metaloop.testing.matrix` tries them.

A composition is sound when it takes two steps, is stopped and resumed between them, and ends with the bits of one that
was not. What does not fit must be refused with `Incompatible`, and a reason, when the experiment is built.
"""

from __future__ import annotations

import itertools
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from metaloop import plugins
from metaloop.errors import Incompatible, UserError
from metaloop.experiment import Experiment, Progress
from metaloop.learner import AnyLearner
from metaloop.meta_optimizer import AnyMetaOptimizer
from metaloop.tasks import AnyTaskFamily
from metaloop.testing.compare import expect, expect_same, isolated

TASKS = 2
"""Tasks of an outer step."""


class Composition(NamedTuple):
    """Ids of parts; no meta-optimizer is the learner's own loop."""

    tasks: str
    learner: str
    meta_optimizer: str | None

    def concerns(self, plugin: str) -> bool:
        """Whether a plugin has a part in it."""
        return any(id is not None and id.partition("/")[0] == plugin for id in self)


@dataclass(frozen=True)
class Examples:
    """The tiny instance of every installed part, by its id."""

    tasks: dict[str, AnyTaskFamily]
    learners: dict[str, AnyLearner]
    meta_optimizers: dict[str, AnyMetaOptimizer]
    absent: dict[str, str] = field(default_factory=dict)
    """Parts that can't be made here (an extra or data that is not installed), and why."""

    @classmethod
    def installed(cls) -> Examples:
        """Those of all usable plugins."""
        absent: dict[str, str] = {}
        tasks, learners, metas = (_examples(kind, absent) for kind in ("tasks", "learner", "meta-optimizer"))
        return cls(tasks, learners, metas, absent)

    def experiment(self, composition: Composition) -> Experiment:
        """Two steps of it, on the CPU."""
        tasks, learner, meta_optimizer = composition
        family = self.tasks[tasks]
        return Experiment(
            name="matrix",
            tasks=family,
            learner=self.learners[learner],
            meta_optimizer=None if meta_optimizer is None else self.meta_optimizers[meta_optimizer],
            steps=2,
            task_batch=min(TASKS, family.size or TASKS),
            checkpoint_every=1,
            device="cpu",
        )

    @cached_property
    def fits(self) -> Fits:
        """Which parts fit, as their `check` says when an experiment is built."""
        faults: dict[str, str] = {}
        refusals: dict[tuple[str, str], str] = {}
        pairs = []
        for tasks, learner in itertools.product(self.tasks, self.learners):
            composition = Composition(tasks, learner, None)
            if _fits((tasks, learner), lambda c=composition: self.experiment(c), refusals, faults):  # type: ignore[misc]
                pairs.append((tasks, learner))
        outer = []
        for learner, meta in itertools.product(self.learners, self.meta_optimizers):
            check = self.meta_optimizers[meta].check
            if _fits((learner, meta), lambda c=check, of=learner: c(self.learners[of]), refusals, faults):  # type: ignore[misc]
                outer.append((learner, meta))
        return Fits(tuple(pairs), tuple(outer), refusals, faults)


@dataclass(frozen=True)
class Fits:
    """Which two parts go together."""

    inner: tuple[tuple[str, str], ...]
    """Tasks and learner."""
    outer: tuple[tuple[str, str], ...]
    """Learner and meta-optimizer."""
    refusals: Mapping[tuple[str, str], str]
    """Two parts that don't, and the reason that was given."""
    faults: Mapping[str, str]
    """Two parts of which the building ended otherwise, or which were refused without a reason."""

    def product(self) -> list[Composition]:
        """Every composition that fits, the learner's own loop included."""
        metas: dict[str, list[str | None]] = {}
        for learner, meta in self.outer:
            metas.setdefault(learner, []).append(meta)
        return [Composition(*pair, meta) for pair in self.inner for meta in (*metas.get(pair[1], []), None)]

    def cover(self) -> list[Composition]:
        """A composition for each pair of tasks and learner, and as few more as let all pairs of parts meet.

        Greedy: each time the composition that brings together most parts which have not met. Where several bring as
        many, the first one with a meta-optimizer.
        """
        left = self.product()
        unmet = {pair for composition in left for pair in _pairs(composition)}
        found = []
        while unmet:
            best = max(left, key=lambda composition: len(unmet & _pairs(composition)))
            unmet -= _pairs(best)
            found.append(best)
        return sorted(found, key=lambda composition: tuple(part or "" for part in composition))

    def each_part_once(self) -> list[Composition]:
        """A short choice in which every part occurs."""
        left = self.product()
        unseen = {part for composition in left for part in composition if part is not None}
        found = []
        while unseen:
            best = max(left, key=lambda composition: len(unseen.intersection(composition)))
            unseen.difference_update(best)
            found.append(best)
        return found


def _pairs(composition: Composition) -> set[tuple[str, str, str | None]]:
    """The three pairs of parts, each with the place where they meet."""
    tasks, learner, meta = composition
    return {("inner", tasks, learner), ("outer", learner, meta), ("across", tasks, meta)}


def attempt(experiment: Experiment) -> None:
    """Two steps with a stop between them, beside two steps in one go.

    Raises:
        AssertionError: a run file does not give the composition back, or the resumed run ended with other bits.
        Exception: whatever the composition raises.
    """
    again = Experiment.model_validate_json(experiment.model_dump_json())
    expect(again == experiment, "its run file loads as another composition")
    with tempfile.TemporaryDirectory(prefix="metaloop-matrix-") as root, isolated():
        first = experiment.run(until=1, root=root, quiet=True)
        resumed = again.run(run=first.run, quiet=True).progress
        whole = again.advance(again.advance(again.begin()))
    expect(resumed.step == 2, f"it ended at step {resumed.step}")
    expect_same(_state(resumed), _state(whole), "stopped and resumed, it ends otherwise than in one go")


def _state(progress: Progress) -> dict[str, Any]:
    return {"theta": progress.theta, "meta": progress.meta, "family": progress.family, "spent": progress.spent}


@dataclass(frozen=True)
class Tried:
    """What came of a composition."""

    composition: Composition
    fault: str | None
    """Why it is not sound."""
    seconds: float


def try_all(
    examples: Examples, compositions: Iterable[Composition], tell: Callable[[Tried], object] = lambda tried: None
) -> list[Tried]:
    """Attempt each composition; `tell` is called as they end."""
    found = []
    for composition in compositions:
        fault, start = None, time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                attempt(examples.experiment(composition))
        except (Exception, SystemExit) as error:
            fault = plugins.reason(error)
        found.append(Tried(composition, fault, time.perf_counter() - start))
        tell(found[-1])
    return found


def _examples(kind: str, absent: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part, record in plugins.parts(kind):
        try:
            cls: Any = plugins.load(part.target, record)
            found[part.id] = cls.example()
            if kind == "tasks":
                found[part.id].spec  # noqa: B018 (data that is not here is missed when a spec is asked for)
        except UserError as error:
            found.pop(part.id, None)
            absent[part.id] = plugins.reason(error)
    return found


def _fits(
    pair: tuple[str, str], build: Callable[[], object], refusals: dict[tuple[str, str], str], faults: dict[str, str]
) -> bool:
    try:
        build()
    except Incompatible as error:
        refusals[pair] = str(error).strip()
        if not refusals[pair]:
            faults[" + ".join(pair)] = "refused without a reason"
        return False
    except Exception as error:
        faults[" + ".join(pair)] = f"building it ends with {plugins.reason(error)}, which is not Incompatible"
        return False
    return True
