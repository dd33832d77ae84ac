"""What the claims measure: rules trained from every seed, shared by the claims that need them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from metaloop import Experiment, Key
from metaloop.claims import Sample, Setting
from metaloop.engine import Engine
from metaloop.learner import AnyLearner
from metaloop.objective import TaskObjective
from metaloop_rl.models import Theta
from metaloop_rl.tasks import Environments
from torch import Tensor

from metaloop_ta_lpg.jobs import POLES, SIGMA, SMALL, Sampling, by_gradient, drifting, evolved, small_rule, strategy
from metaloop_ta_lpg.lpo import Lpo
from metaloop_ta_lpg.peers import ppo_returns
from metaloop_ta_lpg.schedule import Schedule, follow
from metaloop_ta_lpg.stages import RATIOS, over_ratios, trainings, without

Rule = Literal["ta-lpg", "lpg", "ta-lpg-gradient"]


class Sizes(NamedTuple):
    """What a measurement may spend."""

    generations: int = 20
    windows: int = 120
    drift_generations: int = 5
    lifetimes: tuple[int, ...] = (5, 15, 30, 60)
    levels: int = 16
    trainings: int = 16
    pairs: int = 64
    estimates: int = 3
    """Of one gradient."""


class Trained(NamedTuple):
    """What a training leaves."""

    experiment: Experiment
    theta: Theta


PLAIN = Sizes()
FULL = Sizes(generations=100, windows=300, drift_generations=20, levels=64, trainings=64, estimates=10)
LONGEST = 30
"""The longest life of meta-training, ten times the shortest in which annealing is looked at."""


def sizes(setting: Setting) -> Sizes:
    """Of a plain or a full measurement."""
    return FULL if setting.full else PLAIN


def rules(setting: Setting, rule: Rule, *, broken: bool = False) -> list[Trained]:
    """A rule trained from every seed; broken: told nothing of the time."""
    size, inputs = sizes(setting), "off" if broken or rule == "lpg" else "relative"
    if rule == "ta-lpg-gradient":
        experiment = by_gradient("relative", size.windows)
    else:
        experiment = evolved(inputs, size.generations, pairs=size.pairs)  # type: ignore[arg-type]
    return trained(setting, f"{rule}{' without the time' * broken}", experiment)


def trained(setting: Setting, name: str, experiment: Experiment) -> list[Trained]:
    """The experiment from every seed, once for all claims that need it."""

    def make() -> list[Trained]:
        found, total = [], len(setting.seeds) * max(1, experiment.total_steps)
        for i, seed in enumerate(setting.seeds):
            own = experiment.but(seed=seed, device=setting.device)
            progress = own.begin()
            while not own.ended(progress):
                progress = own.advance(progress)
                setting.progress(f"training {name}", (i * own.total_steps + progress.step) / total)
            found.append(Trained(own, progress.theta))
        return found

    return setting.share(f"{name} {experiment.model_dump_json()}", make)


def followed(setting: Setting, rule: Rule, *, broken: bool = False) -> list[dict[int, Schedule]]:
    """Each seed's schedules on its own new levels, one for every lifetime."""
    size = sizes(setting)

    def make() -> list[dict[int, Schedule]]:
        return [
            {
                n: follow(result.experiment.learner, result.theta, SMALL, n, size.levels, key(setting, seed))  # type: ignore[arg-type]
                for n in size.lifetimes
            }
            for seed, result in zip(setting.seeds, rules(setting, rule, broken=broken), strict=True)
        ]

    return setting.share(f"schedules of {rule} {broken}", make)


def key(setting: Setting, seed: int) -> Key:
    """A seed's levels: the same for every rule."""
    return Key.of(seed, setting.device).fold("claims")


def returns(setting: Setting) -> Sample:
    """C1: mean returns over lifetimes; broken: LPG in TA-LPG's place and the other way round."""
    pair = [
        [sum(one.returned for one in own.values()) / len(own) for own in followed(setting, rule)]
        for rule in ("ta-lpg", "lpg")
    ]
    return Sample(*(reversed(pair) if setting.broken else pair))


def dynamicity(setting: Setting) -> Sample:
    """C2: how much sizes of updates change over the longest life; broken: of a rule that is told nothing."""

    def of(found: list[dict[int, Schedule]]) -> list[float]:
        return [own[max(own)].dynamicity for own in found]

    baseline = [value + 1e-9 for value in of(followed(setting, "ta-lpg-gradient"))]
    return Sample(of(followed(setting, "ta-lpg", broken=setting.broken)), baseline)


def annealing(setting: Setting) -> Sample:
    """C3: entropy at the end less that at a quarter of life; broken: the rules exchanged."""

    def of(rule: Rule) -> list[float]:
        return [
            sum(own[n].annealing for n in own if n <= LONGEST) / sum(n <= LONGEST for n in own)
            for own in followed(setting, rule)
        ]

    pair = [of("ta-lpg"), of("lpg")]
    return Sample(*(reversed(pair) if setting.broken else pair))


def estimate(
    sampling: Sampling, pairs: int, learner: AnyLearner, tasks: Environments, theta: Theta, own: Key
) -> Tensor:
    """The gradient that one generation estimates, flat."""
    meta = strategy(pairs, sampling, optimizer="SGD", lr=1.0, sigma=SIGMA)
    n = pairs if sampling == "antithetic" else 2 * pairs
    objective: TaskObjective[Any] = TaskObjective(Engine(learner), tasks, {}, n, own.fold("tasks"))
    after, _, _ = meta.step(theta, meta.begin(theta, own), objective, own.fold("noise"))
    return torch.cat([(theta[name] - after[name]).flatten() for name in theta])


def agreement(setting: Setting, sampling: Sampling) -> list[float]:
    """Cosines of independent estimates of each seed's gradient at a first theta, mean over pairs of estimates."""

    def make() -> list[float]:
        learner, size = small_rule("relative"), sizes(setting)
        found = []
        for seed in setting.seeds:
            own, flat = key(setting, seed), []
            theta = learner.init(SMALL.spec, own.fold("theta"))
            for i in range(size.estimates):
                setting.progress(f"estimates, {sampling}, seed {seed}", i / size.estimates)
                flat.append(estimate(sampling, size.pairs, learner, SMALL, theta, own.fold("estimate", i)))
            unit = torch.nn.functional.normalize(torch.stack(flat), dim=1)  # [estimate, parameter]
            found.append(float((unit @ unit.mT).tril(-1).sum()) / math.comb(size.estimates, 2))
        return found

    return setting.share(f"agreement {sampling}", make)


def signal(setting: Setting) -> Sample:
    """C4: with and without antithetic task sampling; broken: exchanged."""
    pair = [agreement(setting, "antithetic"), agreement(setting, "independent")]
    return Sample(*(reversed(pair) if setting.broken else pair))


def drifts(setting: Setting, inputs: Literal["off", "relative"]) -> list[Trained]:
    """Drifts trained from every seed."""
    size = sizes(setting)
    return trained(setting, f"drift, time {inputs}", drifting(inputs, size.drift_generations, pairs=size.pairs))


def drift_returns(setting: Setting, inputs: Literal["off", "relative"], *, ppo: bool = False) -> list[float]:
    """Each seed's mean return over fresh trainings under its drift, or under PPO's."""
    n = sizes(setting).trainings
    return [
        float(
            trainings(result.experiment, without(result.theta) if ppo else result.theta, n, key(setting, seed)).mean()
        )
        for seed, result in zip(setting.seeds, drifts(setting, inputs), strict=True)
    ]


def drift_beside(other: Literal["lpo", "ppo"]) -> Callable[[Setting], Sample]:
    """C5a, C5b: TA-LPO beside LPO, LPO beside PPO; broken: exchanged."""

    def measure(setting: Setting) -> Sample:
        lpo = drift_returns(setting, "off")
        pair = (
            [drift_returns(setting, "relative"), lpo]
            if other == "lpo"
            else [lpo, drift_returns(setting, "off", ppo=True)]
        )
        return Sample(*(reversed(pair) if setting.broken else pair))

    return measure


def drift_over_time(setting: Setting) -> Sample:
    """C5c: the largest change of the drift between the life's ends, as a share of its largest value."""
    found = []
    for result in drifts(setting, "off" if setting.broken else "relative"):
        learner = result.experiment.learner
        assert isinstance(learner, Lpo)
        first, last = (torch.tensor(over_ratios(learner, result.theta, at)) for at in (0.0, 1.0))
        found.append(float((last - first).abs().max() / torch.maximum(first, last).max().clamp(min=1e-9)))
    return Sample(found)


def identity(setting: Setting) -> Sample:
    """C6a: the objective with f = 0 beside PPO's clipped one, largest difference; broken: another clipping."""
    found = []
    for seed in setting.seeds:
        own = key(setting, seed)
        log_ratio, advantage = RATIOS.log(), own.normal(len(RATIOS))
        learner = Lpo().drift.but(clip=0.1) if setting.broken else Lpo().drift
        drift = learner(without(learner.init(own)), log_ratio, advantage, torch.tensor(0.5))
        ratio = log_ratio.exp()
        clipped = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
        found.append(float((ratio * advantage - drift - clipped).abs().max()))
    return Sample(found)


def beside_peer(setting: Setting) -> Sample:
    """C6b: returns of our PPO and of stable-baselines3's at one budget; broken: a learning rate of zero."""
    learner = drifting("off", 0).learner
    assert isinstance(learner, Lpo)
    mine = learner.but(lr=0.0) if setting.broken else learner
    ours = []
    for seed in setting.seeds:
        own = key(setting, seed)
        tasks = POLES.sample({}, 4, own).tasks
        with torch.no_grad():
            lives = mine.outcomes(without(mine.init(POLES.spec, own)), tasks, own.split(4))
        ours.append(float(lives.fitness.mean()))
    theirs = setting.share(
        "stable-baselines3", lambda: [ppo_returns(learner, POLES.env.max_steps, seed) for seed in setting.seeds]
    )
    return Sample(ours, theirs)
