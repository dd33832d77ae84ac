"""What the claims measure: rows of grids, all seeds in one run, one value per seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from metaloop import Experiment
from metaloop.claims import Sample, Setting
from metaloop.claims.statistics import spearman
from metaloop.learner import AnyLearner
from metaloop.result import table

from metaloop_double_descent.curves import FACTORS, Region, peaks
from metaloop_double_descent.feature_descent import FeatureAdam, FeatureDescent
from metaloop_double_descent.features import RCOND, designs
from metaloop_double_descent.grid import Factors, Widths
from metaloop_double_descent.random_features import RandomFeatures

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES = 200
WIDTHS = (20, 40, 80, 120, 160, 180, 190, 200, 210, 220, 240, 300, 400, 800, 1600)
NEAR = (180, 200, 220, 240, 300, 800)
THRESHOLD = Region(EXAMPLES)
CLOSED = (
    *(Factors(steps=steps) for steps in (1e3, 1e5, 1e7, math.inf)),
    *(Factors(steps=1e7, lr=lr) for lr in (0.1, 0.01, 0.001)),
    Factors(steps=1e5, lr=0.01),
    *(Factors(steps=steps, standardise=True) for steps in (1e5, math.inf)),
)


def run(
    setting: Setting,
    name: str,
    learner: AnyLearner,
    widths: Sequence[int],
    settings: Sequence[Factors],
    at: Sequence[int] = (1,),
    precision: str = "float64",
) -> list[pd.DataFrame]:
    """Tables of a grid of all seeds after each number of steps, once for all claims that need them."""
    family = Widths(widths=tuple(widths), settings=tuple(settings), seeds=setting.seeds)
    experiment = Experiment.model_validate(
        {"tasks": family, "learner": learner, "task_batch": None, "log_every": max(at), "steps": max(at)}
        | {"precision": precision, "device": setting.device}
    )

    def make() -> list[pd.DataFrame]:
        found, progress = [], experiment.begin()
        for step in range(1, max(at) + 1):
            progress = experiment.advance(progress)
            if step in at:
                found.append(table(experiment, progress))
            if step % 50 == 0:
                setting.progress(name, step / max(at))
        return found

    return setting.share(f"{name} {experiment.model_dump_json()}", make)


def closed(setting: Setting) -> pd.DataFrame:
    """Gradient descent in closed form at every width."""
    return run(setting, "closed form", RandomFeatures(), WIDTHS, CLOSED)[0]


def chosen(rows: pd.DataFrame, factors: Factors) -> pd.DataFrame:
    """The rows of one setting."""
    alike = np.logical_and.reduce([rows[name] == getattr(factors, name) for name in FACTORS])
    return rows[alike]


def heights(rows: pd.DataFrame, setting: Setting, region: Region = THRESHOLD, what: str = "height") -> list[float]:
    """A number of `peaks` for each seed of one setting's rows."""
    found = peaks(rows, region, by=("seed",)).set_index("seed")
    return [float(found[what][seed]) for seed in setting.seeds]


def logs(values: Sequence[float]) -> list[float]:
    """Decimal logarithms."""
    return [math.log10(value) for value in values]


def small_budget(setting: Setting) -> Sample:
    """D1: log10 of the peak height after 1000 steps; broken: at the end of all steps."""
    rows = chosen(closed(setting), Factors(steps=math.inf if setting.broken else 1e3))
    return Sample(logs(heights(rows, setting)))


def least_squares(setting: Setting, share: float = RCOND) -> dict[int, dict[int, float]]:
    """numpy's `lstsq` on the same features: test errors by seed and width, singular values below `share` dropped."""

    def make() -> dict[int, dict[int, float]]:
        family, learner = Widths(widths=NEAR, seeds=setting.seeds), RandomFeatures()
        experiment = Experiment(tasks=family, learner=learner, task_batch=None, precision="float64", device="cpu")
        found: dict[int, dict[int, float]] = {seed: {} for seed in setting.seeds}
        with experiment.scope():
            points = family.sample(experiment.begin().family, family.size, experiment.root).tasks
            problem = learner.problem(points, experiment.root)
            for design in designs(points, problem.data.support_x, problem.which):
                query = design.features(problem.data.query_x[design.data])
                for row, own in zip(design.rows.tolist(), design.which.tolist(), strict=True):
                    y, wanted = problem.support_y[row].numpy(), problem.query_y[row].numpy()
                    layer = np.linalg.lstsq(design.support[own].numpy(), y, rcond=share)[0]
                    error = np.square(query[own].numpy() @ layer - wanted).sum(-1).mean()
                    found[int(points.seed[row])][design.width] = float(error)
        return found

    return setting.share(f"least squares {share}", make)


def exact_peak(setting: Setting) -> Sample:
    """D1: log10 of the peak height of numpy's least squares; broken: without directions below 1% of the largest."""
    errors = least_squares(setting, 0.01 if setting.broken else RCOND)
    near = [width for width in NEAR if THRESHOLD.low <= width / EXAMPLES <= THRESHOLD.high]
    return Sample([math.log10(max(own[w] for w in near) / own[max(NEAR)]) for own in errors.values()])


def exact_is_least_squares(setting: Setting) -> Sample:
    """D1: largest relative deviation of the closed form's end from numpy's least squares; broken: after 10^7 steps."""
    rows = chosen(closed(setting), Factors(steps=1e7 if setting.broken else math.inf))
    ours = rows.set_index(["seed", "width"])["loss"]
    errors = least_squares(setting)
    return Sample([max(abs(ours[seed, w] / error - 1) for w, error in errors[seed].items()) for seed in setting.seeds])


def exact_over_small(setting: Setting) -> Sample:
    """D1: log10 of the exact solution's peak and of that after 1000 steps; broken: 1000 steps in both."""
    exact = chosen(closed(setting), Factors(steps=1e3 if setting.broken else math.inf))
    small = chosen(closed(setting), Factors(steps=1e3))
    return Sample(*(logs(heights(rows, setting, what="peak")) for rows in (exact, small)))


def conditions(setting: Setting, *, standardise: bool) -> pd.DataFrame:
    """kappa(F) `[seed, width]`; broken: each width's is that of another, half the list away."""
    rows = chosen(closed(setting), Factors(steps=math.inf, standardise=standardise))
    found = rows.pivot_table(index="seed", columns="width", values="condition").loc[list(setting.seeds)]
    if setting.broken:
        found[:] = np.roll(found.to_numpy(), found.shape[1] // 2, axis=1)
    return found


def condition_peaks_at_threshold(setting: Setting) -> Sample:
    """D2: whether kappa(F) is largest at 0.9 <= p / n <= 1.1, on standardised inputs."""
    at = conditions(setting, standardise=True).idxmax(axis=1)
    return Sample([float(0.9 <= width / EXAMPLES <= 1.1) for width in at])


def condition_orders_excess(setting: Setting) -> Sample:
    """D2: Spearman's rho over widths of kappa(F) and what 10^5 steps leave of the training loss, per seed."""
    kappa = conditions(setting, standardise=True)
    left = []
    for steps in (1e5, math.inf):
        rows = chosen(closed(setting), Factors(steps=steps, standardise=True))
        left.append(rows.pivot_table(index="seed", columns="width", values="train_loss").loc[list(setting.seeds)])
    excess = (left[0] - left[1]).to_numpy()
    return Sample(spearman(kappa.to_numpy(), excess, axis=1).tolist())


def rate_is_budget(setting: Setting) -> Sample:
    """D3: largest relative deviation of test errors of a hundredth of the rate from a hundredth of the steps.

    Broken: the rate is left as it is.
    """
    slow = Factors(steps=1e5) if setting.broken else Factors(steps=1e5, lr=0.01)
    one, other = (
        chosen(closed(setting), factors).set_index(["seed", "width"])["loss"] for factors in (slow, Factors(steps=1e3))
    )
    deviation = (one / other - 1).abs().groupby("seed").max()
    return Sample([float(deviation[seed]) for seed in setting.seeds])


def rate_lowers_peak(setting: Setting) -> Sample:
    """D3: smallest log10 ratio of successive peaks as the rate falls by tens at 10^7 steps; broken: it stays."""
    rates = (1.0, 1.0, 1.0, 1.0) if setting.broken else (1.0, 0.1, 0.01, 0.001)
    found = [logs(heights(chosen(closed(setting), Factors(steps=1e7, lr=lr)), setting, what="peak")) for lr in rates]
    return Sample((-np.diff(np.array(found), axis=0)).min(axis=0).tolist())


def standardised(setting: Setting, what: str, steps: float = 1e5) -> tuple[list[float], list[float]]:
    """log10 of a number with standardised inputs and with raw ones; broken: raw ones in both."""
    rows = closed(setting)
    one = Factors(steps=steps, standardise=not setting.broken)
    return tuple(logs(heights(chosen(rows, f), setting, what=what)) for f in (one, Factors(steps=steps)))  # type: ignore[return-value]


def standardised_peak(setting: Setting) -> Sample:
    """D4: log10 of peak heights after 10^5 steps, standardised inputs and raw."""
    return Sample(*standardised(setting, "height"))


def standardised_loss(setting: Setting) -> Sample:
    """D4: log10 of the training loss at the threshold after 10^5 steps, standardised inputs and raw."""
    return Sample(*standardised(setting, "train_loss"))


def both_peak(setting: Setting) -> Sample:
    """D4: log10 of the lower one of the exact solutions' peak heights; broken: after 1000 steps."""
    rows = closed(setting)
    pair = (Factors(steps=1e3),) if setting.broken else (Factors(), Factors(standardise=True))
    return Sample(np.min([logs(heights(chosen(rows, f), setting)) for f in pair], axis=0).tolist())


class Lengths(NamedTuple):
    """How long iterated optimisers run."""

    adam: int = 2000
    epochs: int = 3000
    pooled: tuple[tuple[int, ...], ...] = ((10, 30, 100, 300), (100, 1000, 3000), (30, 100, 300, 1000))
    """When batches of 8, momentum and Adam are looked at."""
    network: tuple[int, ...] = (50, 150, 500)
    contrast: int = 2000
    perfect: int = 1000


LENGTHS = Lengths(), Lengths(adam=3000, epochs=10_000, network=(100, 400, 1600), contrast=6000, perfect=3000)
"""Of a plain and a full measurement."""
AROUND = (200, 220, 240, 800)
"""Widths of optimisers that are run step by step."""


def beside_descent(setting: Setting, what: str, optimiser: str) -> Sample:
    """D5: log10 of a number with Adam or with batches of 8, and with full-batch gradient descent, as long.

    Broken: at a thousandth of its learning rate.
    """
    lengths = LENGTHS[setting.full]
    steps, slower = lengths.adam if optimiser == "adam" else lengths.epochs, 1e-3 if setting.broken else 1.0
    plain = run(setting, "closed form beside", RandomFeatures(), AROUND, (Factors(steps=float(steps)),))[0]
    learner, lr = (
        (FeatureAdam(steps=steps), 0.1) if optimiser == "adam" else (FeatureDescent(steps=steps, batch=8), 1.0)
    )
    other = run(setting, optimiser, learner, AROUND, (Factors(lr=lr * slower),), at=(steps,))[0]
    return Sample(*(logs(heights(rows, setting, what=what)) for rows in (other, plain)))
