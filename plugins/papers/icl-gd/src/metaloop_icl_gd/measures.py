"""What the claims measure: trained layers and gradient descent on the same held-out tasks, one value per seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from metaloop import Episode, Experiment, Key, TaskFamily, tree
from metaloop.claims import Sample, Setting
from metaloop.precision import default_dtype
from metaloop_basics.learners.anil import Anil
from metaloop_basics.models import Mlp
from torch import Tensor

from metaloop_icl_gd.analysis import Model, best_descent
from metaloop_icl_gd.construction import construction, interpolate
from metaloop_icl_gd.copying import copying
from metaloop_icl_gd.embedding import Embedding
from metaloop_icl_gd.gradient_descent import GDPlusPlus
from metaloop_icl_gd.jobs import LINES, SINES, adam
from metaloop_icl_gd.seeds import Theta, Trained, train
from metaloop_icl_gd.stages import aligned
from metaloop_icl_gd.step_sizes import expected_one_step
from metaloop_icl_gd.transformer import LSATransformer

HELD_OUT = 10_000
SHIFTS = {"input_scale": (0.5, 1.5, 2.0), "weight_scale": (0.5, 2.0, 5.0)}


class Budget(NamedTuple):
    """How long a training is."""

    steps: int
    batch: int


ONE_LAYER = Budget(2000, 2048), Budget(5000, 2048)
"""Of a plain and a full measurement; 5000 steps of 2048 tasks are the paper's."""
TWO_LAYERS = Budget(3000, 2048), Budget(5000, 2048)
SINE = Budget(1200, 256), Budget(10_000, 256)
SEPARATE = Budget(2500, 512), Budget(10_000, 512)
SINE_ADAM = adam(3e-3, clip=1.0)
SEPARATE_ADAM = adam(3e-3, clip=0.1)


def trained(
    setting: Setting,
    name: str,
    budgets: tuple[Budget, Budget],
    experiment: Experiment,
    *,
    frozen: bool = False,
    watch: Callable[[Theta, int], dict[str, float]] | None = None,
) -> Trained:
    """The experiment trained from all seeds of the setting, once for all claims that need it.

    `frozen` leaves theta as it is first drawn, as a learning rate of 0 would; `watch` measures about 40 times.
    """
    steps, batch = budgets[setting.full]
    own = experiment.but(steps=0 if frozen else steps, task_batch=batch, device=setting.device)

    def make() -> Trained:
        return train(
            own,
            setting.seeds,
            every=max(1, steps // 40),
            measure=watch,
            on_progress=lambda done: setting.progress(f"training {name}", done),
        )

    return setting.share(f"{name} {own.model_dump_json()}", make)


def held_out(setting: Setting, family: TaskFamily[Episode, Any], name: str = "judge") -> list[Episode]:
    """Each seed's own tasks, on which all models of that seed are judged."""
    keys = [Key.of(seed, setting.device).fold("claims", name) for seed in setting.seeds]
    return [family.sample(family.begin(key), HELD_OUT, key).tasks for key in keys]


def lines(learner: LSATransformer) -> Experiment:
    """Training on linear regression."""
    return Experiment(tasks=LINES, learner=learner, meta_optimizer=adam(1e-3, clip=1e-3), steps=1)


class Pair(NamedTuple):
    """One seed's trained layer, gradient descent with the step size that is best on other tasks, and tasks."""

    layer: Model
    descent: Model
    tasks: Episode


def one_layer(setting: Setting) -> list[Pair]:
    """A trained layer of every seed beside one step of gradient descent."""
    experiment = lines(LSATransformer())
    found = trained(setting, "one layer", ONE_LAYER, experiment, frozen=setting.broken)
    return [
        Pair(Model(experiment.learner, found.of(i)), descent, tasks)
        for i, (descent, tasks) in enumerate(zip(one_step(setting), held_out(setting, LINES), strict=True))
    ]


def one_step(setting: Setting) -> list[Model]:
    """One step of gradient descent for every seed, with the step size that is best on other tasks."""
    tune = held_out(setting, LINES, "tune")
    return setting.share("one step", lambda: [best_descent(1, tasks, whiten=False) for tasks in tune])


def construction_error(setting: Setting) -> Sample:
    """C1: the largest difference between the constructed layers and autograd's gradient steps, in float64."""
    return Sample([max(_construction_error(seed, k, setting.broken) for k in (1, 3)) for seed in setting.seeds])


def _construction_error(seed: int, steps: int, broken: bool) -> float:
    with default_dtype(torch.float64):
        key = Key.of(seed).fold("construction", steps)
        tasks: Episode = LINES.but(queries=5, outputs=2).sample({}, 100, key).tasks
        start, eta = key.fold("start").normal(2, LINES.inputs), 0.05
        theta = construction(LINES.inputs, 2, eta=eta, start=start)
        if broken:  # the sign forgotten: targets added to the first model's predictions, not subtracted
            theta["value"] = theta["value"].abs()
        layers = LSATransformer(layers=steps)
        keys = key.split(100)
        prediction = layers.predict(theta, layers.begin(theta, tasks, keys), tasks.query_x, keys)
        prediction = prediction + tasks.query_x @ start.mT  # a query that carries W0's prediction in its slot
        stepped = _autograd_steps(tasks, start, eta * LINES.shots, steps)
        return float((prediction - tasks.query_x @ stepped.mT).abs().max())


def _autograd_steps(tasks: Episode, start: Tensor, eta: float, steps: int) -> Tensor:
    """W `[task, outputs, d]` after steps of size `eta` on `1/(2N) sum_i |W x_i - y_i|^2`, by autograd."""
    w = start.expand(len(tasks.support_x), -1, -1)
    for _ in range(steps):
        w = w.detach().requires_grad_()
        error = tasks.support_x @ w.mT - tasks.support_y
        (slope,) = torch.autograd.grad(error.square().sum() / (2 * tasks.support_x.shape[1]), w)
        w = w - eta * slope
    return w.detach()


def loss_found(setting: Setting) -> Sample:
    """C2: a trained layer's loss beside gradient descent's."""
    pairs = one_layer(setting)
    return Sample([p.layer.loss(p.tasks) for p in pairs], [p.descent.loss(p.tasks) for p in pairs])


def alignment_found(name: str) -> Callable[[Setting], Sample]:
    """C2: a mean of `Alignment` between a trained layer and gradient descent."""
    return lambda setting: Sample([aligned(p.layer, p.descent, p.tasks)[name] for p in one_layer(setting)])


def shifted_ratio(extreme: Callable[[list[float]], float]) -> Callable[[Setting], Sample]:
    """C3: the largest or smallest ratio of the layer's loss to gradient descent's over the shifted laws."""

    def measure(setting: Setting) -> Sample:
        ratios: list[list[float]] = [[] for _ in setting.seeds]
        for field, values in SHIFTS.items():
            for value in values:
                tasks = held_out(setting, LINES.but(**{field: value}), f"{field} {value}")
                for own, pair, episodes in zip(ratios, one_layer(setting), tasks, strict=True):
                    own.append(pair.layer.loss(episodes) / pair.descent.loss(episodes))
        return Sample([extreme(own) for own in ratios])

    return measure


def interpolated(setting: Setting) -> Sample:
    """C4: the loss of the layer half way between the trained weights and the construction.

    Broken: the construction's mirror image, from predictions read without their minus.
    """
    d = LINES.inputs
    treatment, baseline = [], []
    for layer, descent, tasks in one_layer(setting):
        sign = -1.0 if setting.broken else 1.0
        target = construction(d, eta=sign * float(descent.theta["eta"]), device=setting.device)
        between = Model(LSATransformer(), interpolate(layer.theta, target, d))
        treatment.append(between.loss(tasks))
        baseline.append(min(layer.loss(tasks), descent.loss(tasks)))
    return Sample(treatment, baseline)


def two_layers(setting: Setting, *, whiten: bool) -> Sample:
    """C5: two trained layers of shared weights beside two steps of gradient descent, or of GD++.

    Broken: layers that may not change their inputs, which curvature correction needs.
    """
    learner = LSATransformer(layers=2, y_only=setting.broken)
    found = trained(setting, "two layers", TWO_LAYERS, lines(learner))
    tune = held_out(setting, LINES, "tune")
    descents = setting.share(f"two steps {whiten}", lambda: [best_descent(2, tasks, whiten=whiten) for tasks in tune])
    tasks = held_out(setting, LINES)
    return Sample(
        [Model(learner, found.of(i)).loss(episodes) for i, episodes in enumerate(tasks)],
        [descent.loss(episodes) for descent, episodes in zip(descents, tasks, strict=True)],
    )


def waves(learner: Any) -> Experiment:
    """Training on sine waves."""
    return Experiment(tasks=SINES, learner=learner, meta_optimizer=SINE_ADAM, steps=1)


DEEP = LSATransformer(embedding=Embedding())
SHALLOW = LSATransformer(embedding=Embedding(hidden=0))
HEAD_STEP = GDPlusPlus(whiten=False, eta=0.01, embedding=Embedding())
ANIL = Anil(steps=1, inner_lr=0.03, model=Mlp(widths=(160, 40)))


def sine_losses(setting: Setting, name: str, learner: Any) -> list[float]:
    """Each seed's loss on held-out sine waves after training."""
    found = trained(setting, name, SINE, waves(learner), frozen=setting.broken and learner is DEEP)
    tasks = held_out(setting, SINES)
    return [Model(learner, found.of(i)).loss(episodes) for i, episodes in enumerate(tasks)]


def deep_beside_head_step(setting: Setting) -> Sample:
    """C6: MLP and layer beside MLP and one gradient step on the last coordinate's weights."""
    return Sample(sine_losses(setting, "MLP and layer", DEEP), sine_losses(setting, "MLP and one step", HEAD_STEP))


def deep_beside_shallow(setting: Setting) -> Sample:
    """C6: MLP and layer beside the layer without MLP; broken: no MLP in either."""
    learner = SHALLOW if setting.broken else DEEP
    return Sample(sine_losses(setting, "MLP and layer", learner), sine_losses(setting, "layer alone", SHALLOW))


def deep_beside_anil(setting: Setting) -> Sample:
    """C6: MLP and layer beside ANIL, whose inner loop is one gradient step of the head."""
    return Sample(sine_losses(setting, "MLP and layer", DEEP), sine_losses(setting, "ANIL", ANIL))


def separate(setting: Setting) -> Trained:
    """Transformers of separate tokens, with loss and copying on the way; broken: without positions."""
    learner = LSATransformer(
        layers=2,
        recurrent=False,
        tokens="separate",
        softmax="first",
        positions=0 if setting.broken else 10,
        init_scale=0.02,
    )
    few = {
        seed: tree.index(tasks, slice(0, 1000))
        for seed, tasks in zip(setting.seeds, held_out(setting, LINES, "watch"), strict=True)
    }

    def watch(theta: Theta, seed: int) -> dict[str, float]:
        copies = copying(learner, theta, tree.index(few[seed], slice(0, 200)))._asdict()
        found = {name: float(value.mean()) for name, value in copies.items()}
        return found | {"loss": Model(learner, theta).loss(few[seed])}

    experiment = Experiment(tasks=LINES, learner=learner, meta_optimizer=SEPARATE_ADAM, steps=1)
    return trained(setting, "separate tokens", SEPARATE, experiment, watch=watch)


def separate_reaches_descent(setting: Setting) -> Sample:
    """C7: whether a transformer of separate tokens ends within a tenth of one step of gradient descent's loss."""
    found = separate(setting)
    models = [Model(found.experiment.learner, found.of(i)) for i in range(len(setting.seeds))]
    ratios = [
        model.loss(tasks) / descent.loss(tasks)
        for model, descent, tasks in zip(models, one_step(setting), held_out(setting, LINES), strict=True)
    ]
    return Sample([float(abs(ratio - 1.0) <= 0.1) for ratio in ratios])


def copying_at_the_drop(setting: Setting) -> Sample:
    """C7: the first layer's dependence on the next token once half of the loss is gained, beside that long before.

    Half way is between predicting zero and one step of gradient descent; long before is the mean over the first half
    of the way there. One value per seed that got there; where none did, of every seed at the end of training.
    """
    curves = separate(setting).curves
    theory = expected_one_step(LINES.inputs, LINES.shots)
    below = curves["loss"] < (theory.loss + theory.zero_loss) / 2  # [measurement, seed]
    dropped = below.any(0)
    at = below.int().argmax(0) if dropped.any() else torch.full_like(dropped, len(below) - 1, dtype=torch.int64)
    chosen = dropped.nonzero().squeeze(1) if dropped.any() else torch.arange(len(dropped))
    copies = curves["copy_next"]
    pairs = [(float(copies[at[i], i]), float(copies[: int(at[i]) // 2 + 1, i].mean())) for i in chosen]
    return Sample(*zip(*pairs, strict=True))
