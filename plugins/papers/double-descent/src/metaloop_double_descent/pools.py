"""What the claims about all configurations at once, and about two-layer networks, measure."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from metaloop.claims import Sample, Setting
from metaloop.learner import AnyLearner

from metaloop_double_descent import measures
from metaloop_double_descent.curves import Collapse, Region, collapse, peaks, varied
from metaloop_double_descent.feature_descent import FeatureAdam, FeatureDescent
from metaloop_double_descent.grid import Factors
from metaloop_double_descent.network import TwoLayer
from metaloop_double_descent.perfect import PerfectNetwork
from metaloop_double_descent.random_features import RandomFeatures

if TYPE_CHECKING:
    import pandas as pd

POOL = (
    *(Factors(steps=steps) for steps in (1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, math.inf)),
    *(Factors(steps=steps, lr=lr) for steps in (3e4, 3e6) for lr in (0.01, 0.1, 1.9)),
    *(Factors(steps=steps, scale=scale) for steps in (1e4, 1e6) for scale in (0.2, 0.5, 1.3)),
    *(Factors(steps=steps, start=start) for steps in (1e2, 1e4, 1e6, math.inf) for start in (1.0, 3.0)),
    *(Factors(steps=steps, standardise=True) for steps in (1e2, 1e3, 1e4, 1e5, 1e6, math.inf)),
    *(Factors(steps=steps, centre=True) for steps in (1e2, 1e3, 1e4, 1e5, 1e6, math.inf)),
    *(Factors(steps=steps, standardise=True, centre=True) for steps in (1e2, 1e3, 1e4, 1e5, math.inf)),
)
"""Of random features, in closed form."""


def feature_pool(setting: Setting) -> pd.DataFrame:
    """Peaks of all configurations of random features: closed form, batches, momentum and Adam at several times."""

    def make() -> pd.DataFrame:
        import pandas as pd

        (rows,) = measures.run(setting, "closed form, factors", RandomFeatures(), measures.NEAR, POOL)
        closed = peaks(rows, measures.THRESHOLD)
        parts = [closed.assign(factor=[varied(row) for row in closed.to_dict("records")])]
        times = measures.LENGTHS[setting.full].pooled
        iterated: tuple[tuple[str, AnyLearner, tuple[Factors, ...]], ...] = (
            ("batches", FeatureDescent(steps=times[0][-1], batch=8), (Factors(), Factors(lr=0.3))),
            ("momentum", FeatureDescent(steps=times[1][-1], momentum=0.9), (Factors(), Factors(lr=0.1))),
            ("Adam", FeatureAdam(steps=times[2][-1]), (Factors(lr=0.01), Factors(lr=0.1))),
        )
        for (name, learner, settings), at in zip(iterated, times, strict=True):
            found = measures.run(setting, name, learner, measures.AROUND, settings, at=at)
            for step, rows in zip(at, found, strict=True):
                parts.append(peaks(rows, measures.THRESHOLD).assign(factor=name, steps=float(step)))
        return pd.concat(parts, ignore_index=True)

    return setting.share("feature pool", make)


NETWORK_WIDTHS = (16, 32, 48, 96)
NETWORK = Region(28, 0.5, 2.5)
"""n C / (d + C + 1) = 28 hidden units have as many weights as there are targets."""
NETWORKS: tuple[tuple[str, TwoLayer, tuple[Factors, ...]], ...] = (
    ("lr", TwoLayer(), tuple(Factors(lr=lr) for lr in (0.001, 0.003, 0.01))),
    ("inputs", TwoLayer(), tuple(Factors(lr=lr, standardise=True) for lr in (0.001, 0.003, 0.01))),
    ("scale", TwoLayer(), (Factors(lr=0.003, scale=0.1), Factors(lr=0.003, scale=0.3))),
    ("SGD", TwoLayer(optimizer="sgd"), (Factors(lr=0.1, standardise=True), Factors(lr=0.1))),
    ("momentum", TwoLayer(optimizer="momentum"), (Factors(lr=0.03, standardise=True),)),
    ("layer norm", TwoLayer(norm="layer"), (Factors(lr=0.01),)),
    ("batch norm", TwoLayer(norm="batch"), (Factors(lr=0.003),)),
    ("parametrisation", TwoLayer(parametrisation="ntk"), (Factors(lr=0.01, standardise=True),)),
)


def network_pool(setting: Setting) -> pd.DataFrame:
    """Peaks of all configurations of two-layer networks at several times."""

    def make() -> pd.DataFrame:
        import pandas as pd

        at = measures.LENGTHS[setting.full].network
        parts = []
        for name, learner, settings in NETWORKS:
            own = learner.but(steps=max(at))
            found = measures.run(setting, name, own, NETWORK_WIDTHS, settings, at=at, precision="float32")
            for step, rows in zip(at, found, strict=True):
                parts.append(peaks(rows, NETWORK).assign(factor=name, steps=float(step)))
        return pd.concat(parts, ignore_index=True)

    return setting.share("network pool", make)


def collapsed(pool: Callable[[Setting], pd.DataFrame], what: str, sign: float = 1.0) -> Callable[[Setting], Sample]:
    """D6: a number of `Collapse` per seed; broken: training losses of other configurations."""

    def measure(setting: Setting) -> Sample:
        found = pool(setting)
        values = []
        for seed in setting.seeds:
            own = found[found["seed"] == seed]
            loss = own["train_loss"].to_numpy()
            if setting.broken:
                loss = np.random.default_rng(seed).permutation(loss)
            one: Collapse = collapse(loss, own["height"].to_numpy(), list(own["factor"]))
            values.append(sign * getattr(one, what))
        return Sample(values)

    return measure


CONTRAST_WIDTHS = (4, 8, 16, 32, 64)
ADAM, CHOSEN = Factors(lr=0.01), Factors(lr=0.1)
SHORT = tuple(Factors(lr=lr, standardise=flag) for flag in (False, True) for lr in (0.01, 0.03, 0.1))
SHORT_EPOCHS = (30, 100)
"""Short runs of SGD, and when they are looked at; `CHOSEN` is one of them, at the later time."""


def network_contrast(setting: Setting, kind: str) -> Sample:
    """D7: contrast of a network's peak after long Adam or L-BFGS; broken: after a hundredth of the iterations."""
    lengths, share = measures.LENGTHS[setting.full], 100 if setting.broken else 1
    if kind == "l-bfgs":
        perfect = PerfectNetwork(iterations=max(1, lengths.perfect // share))
        rows = measures.run(setting, "L-BFGS", perfect, CONTRAST_WIDTHS, (ADAM,), precision="float32")[0]
    else:
        rows = _long(setting, max(1, lengths.contrast // share))
    return Sample(measures.heights(rows, setting, NETWORK, what="contrast"))


def short_contrast(setting: Setting, settings: tuple[Factors, ...], at: tuple[int, ...]) -> Sample:
    """D7: largest contrast of short runs of SGD, of all settings and times; broken: of a long run of Adam."""
    if setting.broken:
        return Sample(
            measures.heights(_long(setting, measures.LENGTHS[setting.full].contrast), setting, NETWORK, "contrast")
        )
    learner = TwoLayer(steps=max(SHORT_EPOCHS), optimizer="sgd")
    tables = measures.run(setting, "SGD", learner, CONTRAST_WIDTHS, SHORT, at=SHORT_EPOCHS, precision="float32")
    found = [
        measures.heights(measures.chosen(rows, one), setting, NETWORK, what="contrast")
        for time, rows in zip(SHORT_EPOCHS, tables, strict=True)
        if time in at
        for one in settings
    ]
    return Sample(np.max(found, axis=0).tolist())


def _long(setting: Setting, epochs: int) -> pd.DataFrame:
    learner = TwoLayer(steps=epochs)
    found = measures.run(setting, "Adam", learner, CONTRAST_WIDTHS, (ADAM,), at=(epochs,), precision="float32")
    return found[0]
