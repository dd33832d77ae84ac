"""A stage of a pipeline: something that is computed from earlier results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from metaloop.component import Component
from metaloop.errors import UserError
from metaloop.hooks import Hooks
from metaloop.key import Key
from metaloop.show import Bar
from metaloop.store import Run

if TYPE_CHECKING:
    from rich.console import RenderableType

    from metaloop.experiment import Experiment
    from metaloop.result import Result

T = TypeVar("T")


@dataclass
class Context:
    """What a stage may use."""

    name: str
    run: Run
    """The stage's own run, inside the pipeline's."""
    pipeline: Run
    results: Mapping[str, Any]
    """Earlier stages by name: a `Result` for an experiment, the returned mapping for a stage."""
    seed: int
    device: torch.device
    hooks: Hooks
    quiet: bool
    closing: list[RenderableType] = field(default_factory=list)
    deadline: float | None = None
    """When the pipeline stops, in `time.monotonic()`; its experiments heed it."""

    @property
    def key(self) -> Key:
        """The stage's own randomness."""
        return Key.of(self.seed, self.device).fold("stage", self.name)

    def earlier(self, name: str) -> Result:
        """An earlier stage's result, if it was an experiment.

        Raises:
            UserError: it was not, or there is no such stage.
        """
        from metaloop.result import Result

        result = self.results.get(name)
        if not isinstance(result, Result):
            known = ", ".join(key for key, value in self.results.items() if isinstance(value, Result)) or "none"
            raise UserError(f"{self.name}: {name!r} is no experiment before this stage; there are: {known}")
        return result

    def artifact(self, name: str, write: Callable[[Path], object]) -> Path:
        """Have `write(path)` make a file of the pipeline's run (a picture, a table), and tell trackers about it."""
        path = self.pipeline.artifact(name)
        write(path)
        self.hooks.artifact_saved(run=self.pipeline, path=path)
        return path

    def experiment(self, name: str, experiment: Experiment) -> Result:
        """Run an experiment inside this stage; one that is finished or begun is loaded or resumed."""
        from metaloop.pipeline import run_part

        own = experiment.but(name=name, seed=self.seed, device=str(self.device))
        return run_part(self.run, name, own, self.hooks, self.quiet, self.deadline)

    def track(self, items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
        """Iterate with a progress bar."""
        known = list(items) if total is None else items
        with Bar(what, total if total is not None else len(known), quiet=self.quiet) as bar:  # type: ignore[arg-type]
            for done, item in enumerate(known, start=1):
                yield item
                bar.at(done)

    def show(self, renderable: RenderableType) -> None:
        """Something to print when the pipeline ends (a table)."""
        self.closing.append(renderable)


class Stage(Component):
    """A step of a pipeline other than an experiment: an analysis, a comparison, a picture."""

    def run(self, context: Context) -> Mapping[str, Any]:
        """Compute; the returned mapping (JSON values) is stored and handed to later stages."""
        raise NotImplementedError(f"{type(self).__name__} must implement run")
