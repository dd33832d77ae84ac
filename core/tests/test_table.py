"""An analysis: a finite family as the grid, a fit without theta, and a table of how every task went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import pytest
import torch
from metaloop import Clock, Draw, Experiment, Key, Learner, Outcome, TaskFamily, load
from metaloop.errors import UserError
from metaloop.outcome import outcome
from metaloop.result import table
from metaloop.specs import ObjectiveSpec, Spec
from torch import Tensor

from .methods import small


class Setting(NamedTuple):
    rate: Tensor  # [task]
    start: Tensor  # [task]


class Rates(TaskFamily[Setting, dict[str, Any]]):
    """Every rate from every start."""

    rates: tuple[float, ...] = (0.1, 0.5, 1.5)
    starts: tuple[float, ...] = (1.0, -2.0)
    named: str = "rate"

    @property
    def spec(self) -> Spec:
        return ObjectiveSpec(dimension=1)

    @property
    def size(self) -> int:
        return len(self.rates) * len(self.starts)

    def sample(self, state: dict[str, Any], n: int, key: Key) -> Draw[Setting]:
        rows = torch.arange(n) if n == self.size else key.permutation(self.size)[:n]
        every = torch.cartesian_prod(torch.tensor(self.rates), torch.tensor(self.starts))
        return Draw(Setting(*every[rows].unbind(1)))

    def columns(self, tasks: Setting) -> Mapping[str, Sequence[Any]]:
        return {self.named: tasks.rate.tolist(), "start": tasks.start.tolist()}


class Shrink(Learner[dict[str, Tensor], Setting, Tensor]):
    """Gradient descent on `x^2 / 2`, judged with noise."""

    theta_kind: ClassVar[Literal["tensors", "object", "none"]] = "none"
    steps: int = 3
    begun: ClassVar[int] = 0

    def check(self, spec: Spec) -> None:
        assert isinstance(spec, ObjectiveSpec)

    def begin(self, theta: dict[str, Tensor], tasks: Setting, keys: Key) -> Tensor:
        type(self).begun += 1
        return tasks.start.clone()

    def step(self, theta: dict[str, Tensor], state: Tensor, tasks: Setting, clock: Clock, keys: Key) -> Tensor:
        return state - tasks.rate * state

    def evaluate(self, theta: dict[str, Tensor], state: Tensor, tasks: Setting, keys: Key) -> Outcome:
        return outcome(state.square() / 2 + 0.01 * keys.normal(), metrics={"left": state, "small": state.abs() < 0.5})


def grid(**fields: Any) -> Experiment:
    return Experiment(**({"tasks": Rates(), "learner": Shrink(), "task_batch": None} | fields))


def test_the_table_has_a_row_per_task_of_the_grid_with_its_settings_and_how_it_went(tmp_path: Path) -> None:
    result = grid(precision="float64").run(root=tmp_path, quiet=True)
    found = result.table()
    assert list(found.columns) == ["rate", "start", "loss", "fitness", "left", "small"]
    assert list(zip(found["rate"], found["start"], strict=True)) == [(r, s) for r in Rates().rates for s in (1.0, -2.0)]
    assert found["left"].tolist() == pytest.approx([s * (1 - r) ** 3 for r in Rates().rates for s in (1.0, -2.0)])
    assert found["small"].tolist() == (found["left"].abs() < 0.5).tolist()
    assert found["loss"].mean() == pytest.approx(result.summary["loss"], abs=1e-12)  # the run's last row of metrics
    assert found.query("rate == 0.5 and start < 0")["left"].item() == pytest.approx(-0.25)


def test_a_stored_run_gives_the_same_table_without_fitting_again(tmp_path: Path) -> None:
    experiment = grid()
    result = experiment.run(root=tmp_path, quiet=True)
    begun = Shrink.begun
    later = load(result.path, experiment)
    assert later.table().equals(result.table())
    assert Shrink.begun == begun


def test_a_closed_form_without_inner_steps_has_a_table_too(tmp_path: Path) -> None:
    found = grid(learner=Shrink(steps=0)).run(root=tmp_path, quiet=True).table()
    assert found["left"].tolist() == [1.0, -2.0] * 3


def test_a_table_can_be_taken_on_the_way(tmp_path: Path) -> None:
    experiment = grid(tasks=Rates(rates=(0.5,), starts=(1.0,)))
    progress, seen = experiment.begin(), []
    for _ in range(3):
        progress = experiment.advance(progress)
        seen.append(table(experiment, progress)["left"].item())
    assert seen == [0.5, 0.25, 0.125]


class Patient(Shrink):
    """A life is longer the slower its rate; the longest is 4 steps, the shortest has none."""

    steps: int = 4

    def lifetime(self, tasks: Setting) -> Tensor:
        return (2 / tasks.rate).long().clamp(max=4) * (tasks.rate < 1)


@pytest.mark.parametrize("log_every", [1, 3])
def test_ended_rows_of_a_whole_grid_stay(tmp_path: Path, log_every: int) -> None:
    """Each row is what it would be alone, however long others live and whenever rows are logged."""
    rates = (0.5, 0.8, 1.5)
    together = grid(tasks=Rates(rates=rates), learner=Patient(), log_every=log_every, precision="float64")
    Patient.begun = 0
    result = together.run(root=tmp_path, quiet=True)
    assert Patient.begun == 1
    lives = {0.5: 4, 0.8: 2, 1.5: 0}
    expected = [s * (1 - r) ** lives[r] for r in rates for s in (1.0, -2.0)]
    assert result.table()["left"].tolist() == pytest.approx(expected)
    assert result.summary["inner_steps"] == 2 * sum(lives.values())


def test_a_family_that_says_no_columns_still_has_outcomes(tmp_path: Path) -> None:
    class Silent(Rates):
        def columns(self, tasks: Setting) -> Mapping[str, Sequence[Any]]:
            return TaskFamily.columns(self, tasks)

    found = grid(tasks=Silent()).run(root=tmp_path, quiet=True).table()
    assert list(found.columns) == ["loss", "fitness", "left", "small"]
    assert len(found) == 6


def test_what_has_no_table_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"experiment\.evaluate"):
        small(steps=1).run(root=tmp_path, quiet=True).table()
    with pytest.raises(UserError, match="have taken a step"):
        grid(steps=0).run(root=tmp_path, quiet=True).table()
    with pytest.raises(UserError, match="both have 'loss'"):
        grid(tasks=Rates(named="loss")).run(root=tmp_path, quiet=True).table()
