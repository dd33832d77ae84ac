"""What metaloop asks of every plugin and meta-optimizer, and what this meta-optimizer promises."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from metaloop import Experiment, Incompatible, testing
from metaloop.testing.toys import Descent, Guess, Quadratics
from metaloop_template.meta_optimizer import TemplateMetaOptimizer


@testing.parametrize("template", TemplateMetaOptimizer.example(), TemplateMetaOptimizer(lr=0.03, momentum=0.0))
def test_conforms(check: Callable[[], None]) -> None:
    check()


def test_every_number_moves_by_the_rate() -> None:
    experiment = Experiment(
        tasks=Quadratics(), learner=Descent(), meta_optimizer=TemplateMetaOptimizer(lr=0.25), steps=1, device="cpu"
    )
    before = experiment.begin()
    after = experiment.advance(before)
    for name, value in before.theta.items():
        assert (after.theta[name] - value).abs().tolist() == pytest.approx(value.new_full(value.shape, 0.25).tolist())


def test_a_learner_without_gradients_is_refused_when_the_experiment_is_built() -> None:
    with pytest.raises(Incompatible, match="not differentiable"):
        Experiment(tasks=Quadratics(), learner=Guess(), meta_optimizer=TemplateMetaOptimizer(), steps=1)
