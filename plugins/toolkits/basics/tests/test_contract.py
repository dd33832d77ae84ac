"""What the core asks of every family, learner and plugin, checked by `metaloop.testing`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from metaloop import Experiment, testing
from metaloop.learner import AnyLearner
from metaloop.tasks import AnyTaskFamily
from metaloop_basics import jobs
from metaloop_basics.learners.anil import Anil
from metaloop_basics.learners.descent import GradientDescent
from metaloop_basics.learners.maml import Maml
from metaloop_basics.learners.protonet import ProtoNet
from metaloop_basics.learners.ridge import Ridge
from metaloop_basics.models import ConvNet, Mlp
from metaloop_basics.tasks.digits import FewShotDigits
from metaloop_basics.tasks.folder import ImageFolderEpisodes
from metaloop_basics.tasks.regression import LinearRegression, Sinusoid
from metaloop_basics.tasks.table import TableEpisodes

LINES, DIGITS = LinearRegression.example(), FewShotDigits.example()
SMOOTH = Mlp(widths=(6,), activation="tanh")


@testing.parametrize(
    LinearRegression.example(),
    LinearRegression(inputs=3, law="laplace", frobenius=True, noise=0.2, replace=True),
    Sinusoid.example(),
    TableEpisodes.example(),
    TableEpisodes(split="test", shots=3, queries=2, target="bmi"),
    FewShotDigits.example(),
    FewShotDigits(ways=5, classes=(3, 4), rotations=True),
    ImageFolderEpisodes.example(),
)
def test_families(check: Callable[[], None]) -> None:
    check()


@testing.parametrize(
    Maml.example(),
    Maml(steps=2, inner_lr=0.05, model=SMOOTH, learn_inner_lr=True),
    Anil.example(),
    Ridge(penalty=0.1, intercept=True),
    GradientDescent.example(),
    GradientDescent(steps=2, start="learned"),
    tasks=LINES,
)
def test_learners_of_real_targets(check: Callable[[], None]) -> None:
    check()


@testing.parametrize(
    Maml(steps=2, inner_lr=0.05, model=SMOOTH),
    Anil(steps=2, model=ConvNet(channels=(3,), norm="none")),
    ProtoNet.example(),
    ProtoNet(ways=3, model=ConvNet(channels=(3, 2))),
    ProtoNet(ways=3, model=ConvNet(channels=(2,), norm="batch")),
    Ridge(ways=3),
    tasks=DIGITS,
)
def test_learners_of_classes(check: Callable[[], None]) -> None:
    check()


@testing.parametrize(
    Maml(steps=2, inner_lr=0.05, model=SMOOTH, first_order=True),
    Anil(steps=2, model=SMOOTH, first_order=True),
    tasks=LINES,
    expected_failures={"gradient_equals_differences": "first_order leaves second derivatives out on purpose"},
)
def test_first_order_learners(check: Callable[[], None]) -> None:
    check()


@testing.parametrize("basics")
def test_plugin(check: Callable[[], None]) -> None:
    check()


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
@pytest.mark.parametrize("job", [jobs.sinusoids, jobs.digits])
def test_jobs_load_from_their_run_files(job: Callable[[str], Experiment], profile: str) -> None:
    experiment = job(profile)
    assert Experiment.model_validate_json(experiment.model_dump_json()) == experiment


def test_jobs_learn() -> None:
    """A tenth of the sinusoid job: adapting helps more than it did, and beats predicting zero (A^2 / 2 = 4.3)."""
    experiment = jobs.sinusoids("cpu").but(steps=150, eval_tasks=200)
    progress = experiment.begin()
    before = float(experiment.evaluate(progress.theta).loss.mean())
    for _ in range(150):
        progress = experiment.advance(progress)
    after = float(experiment.evaluate(progress.theta).loss.mean())
    assert after < 3.5 < before


@pytest.mark.parametrize(
    ("tasks", "learner"),
    [
        (LINES, Maml.example()),
        (DIGITS, Maml(steps=1, model=ConvNet.example())),
        (DIGITS, Anil(model=ConvNet.example())),
        (DIGITS, ProtoNet.example()),
        (LINES, Ridge.example()),
        (LINES, Ridge(penalty=0)),
        (LINES, GradientDescent.example()),
    ],
)
def test_half_precision_is_close(tasks: AnyTaskFamily, learner: AnyLearner) -> None:
    full = Experiment(tasks=tasks, learner=learner, steps=1, device="cpu")
    half = full.but(precision="bfloat16")
    theta = full.begin().theta
    torch.testing.assert_close(half.evaluate(theta).loss, full.evaluate(theta).loss, rtol=0.1, atol=0.02)


@pytest.mark.parametrize("model", [Mlp.example(), ConvNet.example()], ids=["mlp", "conv"])
def test_models(model: Mlp | ConvNet) -> None:
    testing.check_component(model)
