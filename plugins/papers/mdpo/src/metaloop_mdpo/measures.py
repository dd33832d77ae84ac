"""What the claims measure: trainings on as many seeds as asked for, shared by the claims that need them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from metaloop.claims import Sample, Setting
from metaloop_rl.tasks import GymTasks
from torch import Tensor

from metaloop_mdpo import identities
from metaloop_mdpo.baselines import Peer
from metaloop_mdpo.contest import Budget, Contender, Course, contest
from metaloop_mdpo.jobs import LARGE_STEPS, SHORT, SHORT_SAC
from metaloop_mdpo.on_policy import OnPolicyGym

TASKS = {
    "hopper": GymTasks(id="Hopper-v5"),
    "pendulum": GymTasks(id="InvertedDoublePendulum-v5"),
    "swing-up": GymTasks(id="Pendulum-v1"),
}
# "tuned": the best of nine settings each by the mean of seeds 0 and 1 on Hopper-v5 at 25 iterations (README).
CONTENDERS: dict[str, Contender] = {
    "mdpo": OnPolicyGym(),
    "one step": OnPolicyGym(sgd_steps=1),
    "tuned mdpo": LARGE_STEPS,
    "trpo": Peer(algorithm="TRPO"),
    "tuned trpo": Peer(algorithm="TRPO", options={"target_kl": 0.03, "learning_rate": 3e-3}),
    "ppo": Peer(),
    "tuned ppo": Peer(options={"n_epochs": 20}),
    "off-policy mdpo": SHORT,
    "sac": SHORT_SAC,
}


class Lengths(NamedTuple):
    """What a training of each kind may spend."""

    on_policy: Budget
    off_policy: Budget


LENGTHS = (
    Lengths(Budget(steps=16 * 2048), Budget(steps=4000, row=250, copies=1)),
    Lengths(Budget(steps=75 * 2048), Budget(steps=15_000, row=250, copies=1)),
)
"""Of a plain and a full measurement."""


def courses(setting: Setting, task: str, who: str, *, treatment: bool = False) -> list[Course]:
    """One contender's trainings, once for all claims that need them; a broken treatment has learning rate 0."""
    contender = CONTENDERS[who]
    broken = setting.broken and treatment
    if broken and not isinstance(contender, Peer):
        contender = contender.but(lr=0.0)
    budgets = LENGTHS[setting.full]
    budget = budgets.off_policy if task == "swing-up" else budgets.on_policy
    name = f"{who} on {task}"

    def make() -> list[Course]:
        told = partial(setting.progress, name)
        return contest({who: contender}, TASKS[task], budget, setting.seeds, told)[who]

    return setting.share(f"{TASKS[task].model_dump_json()} {contender.model_dump_json()}", make)


def last(found: list[Course]) -> list[float]:
    """Each seed's mean return of the last episodes."""
    return [course[-1]["fitness"] for course in found]


def beside(task: str, treatment: str, baseline: str) -> Callable[[Setting], Sample]:
    """Last returns of two contenders."""

    def measure(setting: Setting) -> Sample:
        return Sample(last(courses(setting, task, treatment, treatment=True)), last(courses(setting, task, baseline)))

    return measure


def exchanged(task: str, treatment: str, baseline: str) -> Callable[[Setting], Sample]:
    """Last returns of two contenders; broken: one in the other's place."""

    def measure(setting: Setting) -> Sample:
        pair = [last(courses(setting, task, who)) for who in (treatment, baseline)]
        return Sample(*(reversed(pair) if setting.broken else pair))

    return measure


def kl_beside(task: str, treatment: str, baseline: str) -> Callable[[Setting], Sample]:
    """Mean KL of an iteration of two contenders."""

    def mean(found: list[Course]) -> list[float]:
        return [sum(row["kl"] for row in course) / len(course) for course in found]

    def measure(setting: Setting) -> Sample:
        return Sample(mean(courses(setting, task, treatment, treatment=True)), mean(courses(setting, task, baseline)))

    return measure


def policy_gradient(setting: Setting) -> Sample:
    """C1a: the gradient of Psi at pi_k beside the policy gradient."""
    return Sample([identities.policy_gradient_error(seed, broken=setting.broken) for seed in setting.seeds])


def sac_gradient(setting: Setting) -> Sample:
    """C1b: the off-policy loss with c = lambda beside SAC's."""
    return Sample([identities.sac_gradient_error(seed, broken=setting.broken) for seed in setting.seeds])


def improvement(setting: Setting) -> Sample:
    """C1c: the largest fall of a value in tabular MDPO."""
    return Sample([identities.largest_fall(path) for path, _ in _tabular(setting)])


def rate(setting: Setting) -> Sample:
    """C1d: by how much gaps are above gap_0 / sqrt(k + 1)."""
    return Sample([identities.rate_excess(*found) for found in _tabular(setting)])


def optimum(setting: Setting) -> Sample:
    """C1e: the gap that is left at the end."""
    return Sample([identities.last_gap(*found) for found in _tabular(setting)])


def _tabular(setting: Setting) -> list[tuple[Tensor, Tensor]]:
    return setting.share(
        "tabular",
        lambda: [identities.values_over_iterations(seed, broken=setting.broken) for seed in setting.seeds],
    )
