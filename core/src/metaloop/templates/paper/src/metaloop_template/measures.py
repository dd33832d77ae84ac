"""What the claims measure."""

from __future__ import annotations

from metaloop.claims import Sample, Setting
from metaloop_basics.meta_optimizers.gradient import Gradient

from metaloop_template import jobs

STEPS = (100, 1000)
"""Outer steps of a plain and of a full measurement."""


def held_out_error(setting: Setting) -> Sample:
    """The error on held-out tasks after training, and before it; broken: trained with learning rate 0."""
    steps = STEPS[setting.full]
    treatment, baseline = [], []
    for done, seed in enumerate(setting.seeds):
        setting.progress("training", done / len(setting.seeds))
        experiment = jobs.training(steps, seed=seed, device=setting.device)
        if setting.broken:
            experiment = experiment.but(meta_optimizer=Gradient(lr=0.0))
        progress = experiment.begin()
        baseline.append(float(experiment.evaluate(progress.theta).loss.mean()))
        for _ in range(steps):
            progress = experiment.advance(progress)
        treatment.append(float(experiment.evaluate(progress.theta).loss.mean()))
    return Sample(treatment, baseline)
