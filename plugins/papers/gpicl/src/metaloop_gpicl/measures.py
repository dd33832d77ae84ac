"""What the claims measure: learners trained from every seed, judged on tasks from images that are held out."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from metaloop import Episode, Experiment, Key, UserError
from metaloop.claims import Sample, Setting
from metaloop.claims.statistics import spearman
from metaloop.learner import AnyLearner
from metaloop_basics.learners.maml import Maml
from metaloop_basics.models import Mlp

from metaloop_gpicl.analysis import ELSEWHERE, draw, elsewhere, few, first, plain, sizes_of, unseen
from metaloop_gpicl.incontext import InContextLearner, parameters
from metaloop_gpicl.jobs import FIVE_WAYS, MAML_RATE, SMALL, TEN_WAYS, training
from metaloop_gpicl.peers import Judge, Model, logistic_regression, majority, nearest, network
from metaloop_gpicl.projection import BiasedTasks, RandomProjectionTasks
from metaloop_gpicl.recurrent import Lstm, OuterProductLstm
from metaloop_gpicl.seeds import Trained, train_all

JUDGED = 1000
"""Tasks on which a seed's learners are judged."""
FITTED = 60
"""Of these, on how many scikit-learn's classifiers are fitted."""
STEPS = 600, 1000
"""Of plain and full measurements."""
LADDER_STEPS = 500, 1000
PLATEAU_STEPS = 1200, 2000
TASKS = FIVE_WAYS
PLATEAU_TASKS = TEN_WAYS
FEW, SOME, MANY = 2**5, 2**10, 2**24
BELOW = 0.9
"""The plateau ends at this share of guessing's loss."""
LSTM = Lstm(width=192, layers=1)
LADDER: tuple[InContextLearner, ...] = (
    Lstm(width=64, layers=1),
    LSTM,
    OuterProductLstm(width=64, layers=1),
    SMALL.but(width=32, feedforward=128),
    SMALL,
)
MAML = Maml(steps=5, inner_lr=MAML_RATE, model=Mlp(widths=(64, 64)))


def trained(setting: Setting, name: str, experiment: Experiment, *, below: float | None = None) -> list[Trained]:
    """The experiment from every seed, once for all claims that need it."""
    own = [experiment.but(seed=seed, device=setting.device) for seed in setting.seeds]

    def make() -> list[Trained]:
        return train_all(own, below=below, on_progress=lambda done: setting.progress(f"training {name}", done))

    return setting.share(f"{name} {below} {experiment.model_dump_json()}", make)


def judged(setting: Setting, family: RandomProjectionTasks, n: int | None = None) -> list[Episode]:
    """Each seed's own tasks, on which all learners of that seed are judged."""
    keys = [Key.of(seed, setting.device).fold("claims") for seed in setting.seeds]
    return [draw(family, n or JUDGED, key) for key in keys]


def models(setting: Setting, n_tasks: int | None, learner: AnyLearner = SMALL) -> list[Model]:
    """A learner of every seed, meta-trained on so many tasks; broken: as first drawn."""
    experiment = training(
        0 if setting.broken and learner is SMALL else STEPS[setting.full],
        tasks=TASKS.but(n_tasks=n_tasks),
        learner=learner,
    )
    found = trained(setting, f"{type(learner).__name__} on {n_tasks} tasks", experiment)
    return [Model(learner, one.theta) for one in found]


def means(judges: list[Any], tasks: list[Episode]) -> list[float]:
    """Each seed's mean accuracy."""
    return [float(judge(episodes).mean()) for judge, episodes in zip(judges, tasks, strict=True)]


def everywhere(setting: Setting, judge: Judge, family: RandomProjectionTasks, n: int | None = None) -> list[float]:
    """Each seed's mean accuracy of one judge that learns nothing before."""
    return [float(judge(episodes).mean()) for episodes in judged(setting, family, n)]


def seen_accuracy(setting: Setting, n_tasks: int) -> list[float]:
    """On tasks that were trained on, with images that were trained on."""
    return means(models(setting, n_tasks), judged(setting, TASKS.but(n_tasks=n_tasks, vary=False)))


def unseen_accuracy(setting: Setting, n_tasks: int) -> list[float]:
    """On other tasks from held-out images."""
    return means(models(setting, n_tasks), judged(setting, unseen(TASKS)))


def seen(n_tasks: int) -> Callable[[Setting], Sample]:
    """C1: accuracy on seen tasks."""
    return lambda setting: Sample(seen_accuracy(setting, n_tasks))


def new(n_tasks: int) -> Callable[[Setting], Sample]:
    """C1: accuracy on unseen tasks."""
    return lambda setting: Sample(unseen_accuracy(setting, n_tasks))


def memorised(setting: Setting) -> Sample:
    """C1: accuracy on unseen tasks after few tasks; broken: of the nearest neighbour, which memorises nothing."""
    if setting.broken:
        return Sample(everywhere(setting, nearest, unseen(TASKS)))
    return Sample(unseen_accuracy(setting, FEW))


def gap(n_tasks: int) -> Callable[[Setting], Sample]:
    """C1: by how much seen tasks are better known than unseen ones, beside the same after few tasks."""

    def of(setting: Setting, count: int) -> list[float]:
        pairs = zip(seen_accuracy(setting, count), unseen_accuracy(setting, count), strict=True)
        return [before - after for before, after in pairs]

    return lambda setting: Sample(of(setting, n_tasks), of(setting, FEW))


def improves(setting: Setting) -> Sample:
    """C2: accuracy on unseen tasks with the whole context, beside that with one example."""
    tasks = judged(setting, unseen(TASKS))
    found = models(setting, MANY)
    return Sample(means(found, tasks), means(found, [first(episodes, 1) for episodes in tasks]))


def smallest_step(setting: Setting) -> Sample:
    """C2: the smallest gain between one size of context and the next.

    Broken: what the nearest neighbour gains when examples are taken away.
    """
    family = unseen(TASKS)
    judges: list[Judge] = [nearest for _ in setting.seeds] if setting.broken else [*models(setting, MANY)]
    gains = []
    for judge, tasks in zip(judges, judged(setting, family), strict=True):
        sizes = sorted(sizes_of(family), reverse=setting.broken)
        curve = [float(judge(first(tasks, size)).mean()) for size in sizes]
        gains.append(min(after - before for before, after in pairwise(curve)))
    return Sample(gains)


def far(setting: Setting, judge: Judge) -> list[tuple[list[float], list[float]]]:
    """The trained learner's accuracy and a judge's, on each data set that was not trained on."""
    found = []
    for name in ELSEWHERE:
        tasks = [few(episodes, FITTED) for episodes in judged(setting, elsewhere(TASKS, name))]
        found.append((means(models(setting, MANY), tasks), [float(judge(episodes).mean()) for episodes in tasks]))
    return found


def above_majority(setting: Setting) -> Sample:
    """C3: the smallest lead over the commonest class in context, over the data sets."""
    rows = far(setting, majority)
    return Sample([min(ours[i] - theirs[i] for ours, theirs in rows) for i in range(len(setting.seeds))])


def beside_regression(setting: Setting) -> Sample:
    """C3: the smallest ratio to logistic regression fitted to the same context, over the data sets."""
    rows = far(setting, logistic_regression)
    return Sample([min(ours[i] / theirs[i] for ours, theirs in rows) for i in range(len(setting.seeds))])


def beside(judge: Judge, n: Callable[[], int]) -> Callable[[Setting], Sample]:
    """C4: the trained learner beside what learns from the context alone, on unseen tasks."""

    def measure(setting: Setting) -> Sample:
        tasks = judged(setting, unseen(TASKS), n())
        return Sample(means(models(setting, MANY), tasks), [float(judge(episodes).mean()) for episodes in tasks])

    return measure


def beside_maml(setting: Setting) -> Sample:
    """C4: the trained learner beside MAML, meta-trained on as many batches of the same tasks."""
    tasks = judged(setting, unseen(TASKS))
    return Sample(means(models(setting, MANY), tasks), means(models(setting, MANY, MAML), tasks))


beside_network = beside(network, lambda: FITTED)
beside_nearest = beside(nearest, lambda: JUDGED)


class Rung(NamedTuple):
    """One learner of the ladder."""

    state: int
    parameters: int
    accuracy: list[float]
    """On unseen tasks, one per seed."""


def rungs(setting: Setting) -> list[Rung]:
    """All learners, trained alike; broken: the transformer of full width as first drawn."""
    spec, tasks, found = unseen(TASKS).spec, judged(setting, unseen(TASKS)), []
    for learner in LADDER:
        steps = 0 if setting.broken and learner is SMALL else LADDER_STEPS[setting.full]
        experiment = training(steps, tasks=TASKS, learner=learner)
        thetas = trained(setting, f"{type(learner).__name__} {learner.width}", experiment)
        accuracy = means([Model(learner, one.theta) for one in thetas], tasks)
        found.append(Rung(learner.state_size(spec), parameters(thetas[0].theta), accuracy))
    return found


def beside_lstm(setting: Setting) -> Sample:
    """C5: the transformer beside an LSTM with more parameters."""
    found = dict(zip(LADDER, rungs(setting), strict=True))
    if found[LSTM].parameters < found[SMALL].parameters:
        raise UserError("the LSTM of C5 must have as many parameters as the transformer")
    return Sample(found[SMALL].accuracy, found[LSTM].accuracy)


def state_explains(setting: Setting) -> Sample:
    """C5: the rank correlation of accuracy with the size of the state, beside that with the number of parameters.

    Broken: parameters counted as state.
    """
    found = rungs(setting)
    counts = [[rung.parameters if setting.broken else rung.state for rung in found], [r.parameters for r in found]]
    accuracy = [[rung.accuracy[i] for rung in found] for i in range(len(setting.seeds))]
    by_state, by_parameters = ([_rank(count, row) for row in accuracy] for count in counts)
    return Sample(by_state, by_parameters)


def _rank(x: list[int], y: list[float]) -> float:
    return float(spearman(torch.tensor(x).double().numpy(), torch.tensor(y).double().numpy()))


def plateau_steps(setting: Setting, name: str, **changes: Any) -> list[float]:
    """Steps until the loss on unseen tasks is below `BELOW` of guessing's; at most the training's."""
    steps = PLATEAU_STEPS[setting.full]
    base = training(steps, tasks=PLATEAU_TASKS, eval_on=unseen(PLATEAU_TASKS), eval_every=25, eval_tasks=64).but(
        **changes
    )
    below = BELOW * math.log(PLATEAU_TASKS.ways)
    return [float(one.steps) for one in trained(setting, name, base, below=below)]


def intervention(name: str, **changes: Any) -> Callable[[Setting], Sample]:
    """C6: steps with an intervention, beside those without; broken: without it."""

    def measure(setting: Setting) -> Sample:
        given = {} if setting.broken else changes
        return Sample(plateau_steps(setting, name, **given), plateau_steps(setting, "as it is"))

    return measure


def fixed_labels(setting: Setting) -> Sample:
    """C6: nine in ten tasks share their labels."""
    return intervention("fixed labels", tasks=BiasedTasks(tasks=PLATEAU_TASKS))(setting)


def larger_batch(setting: Setting) -> Sample:
    """C6: twice the batch."""
    return intervention("larger batch", task_batch=64)(setting)


def fixed_task(setting: Setting) -> Sample:
    """C6, control: nine in ten tasks are one and the same; broken: judged on that task, which is soon memorised."""
    biased = BiasedTasks(tasks=PLATEAU_TASKS, fixed="task")
    judge: Any = BiasedTasks(tasks=plain(PLATEAU_TASKS), fixed="task", fraction=1.0) if setting.broken else None
    changes = {"tasks": biased} | ({"eval_on": judge} if setting.broken else {})
    return Sample(plateau_steps(setting, "fixed task", **changes), plateau_steps(setting, "as it is"))
