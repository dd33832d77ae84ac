"""metaloop: a microkernel for meta-learning research.

Names are imported when first used, so that `import metaloop` loads neither torch nor pydantic.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metaloop.component import Component as Component
    from metaloop.component import Options as Options
    from metaloop.errors import Incompatible as Incompatible
    from metaloop.errors import MetaloopError as MetaloopError
    from metaloop.errors import UserError as UserError
    from metaloop.executors import Executor as Executor
    from metaloop.executors import InProcess as InProcess
    from metaloop.executors import ProcessPool as ProcessPool
    from metaloop.experiment import Experiment as Experiment
    from metaloop.experiment import Progress as Progress
    from metaloop.key import Key as Key
    from metaloop.learner import Adapts as Adapts
    from metaloop.learner import HasModule as HasModule
    from metaloop.learner import Learner as Learner
    from metaloop.learner import PerObject as PerObject
    from metaloop.learner import PerTask as PerTask
    from metaloop.learner import Predicts as Predicts
    from metaloop.meta_optimizer import MetaOptimizer as MetaOptimizer
    from metaloop.objective import Objective as Objective
    from metaloop.outcome import Budget as Budget
    from metaloop.outcome import Carry as Carry
    from metaloop.outcome import Clock as Clock
    from metaloop.outcome import Draw as Draw
    from metaloop.outcome import Episode as Episode
    from metaloop.outcome import Outcome as Outcome
    from metaloop.pipeline import Pipeline as Pipeline
    from metaloop.result import Result as Result
    from metaloop.result import load as load
    from metaloop.specs import ControlSpec as ControlSpec
    from metaloop.specs import ObjectiveSpec as ObjectiveSpec
    from metaloop.specs import Spec as Spec
    from metaloop.specs import SupervisedSpec as SupervisedSpec
    from metaloop.specs import TextSpec as TextSpec
    from metaloop.stage import Context as Context
    from metaloop.stage import Stage as Stage
    from metaloop.sweep import Sweep as Sweep
    from metaloop.tasks import TaskFamily as TaskFamily

_HOMES = {
    "component": ("Component", "Options"),
    "errors": ("Incompatible", "MetaloopError", "UserError"),
    "executors": ("Executor", "InProcess", "ProcessPool"),
    "experiment": ("Experiment", "Progress"),
    "key": ("Key",),
    "learner": ("Adapts", "HasModule", "Learner", "PerObject", "PerTask", "Predicts"),
    "meta_optimizer": ("MetaOptimizer",),
    "objective": ("Objective",),
    "outcome": ("Budget", "Carry", "Clock", "Draw", "Episode", "Outcome"),
    "pipeline": ("Pipeline",),
    "result": ("Result", "load"),
    "specs": ("ControlSpec", "ObjectiveSpec", "Spec", "SupervisedSpec", "TextSpec"),
    "stage": ("Context", "Stage"),
    "sweep": ("Sweep",),
    "tasks": ("TaskFamily",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("metaloop")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'metaloop' has no attribute {name!r}")
    value = getattr(import_module(f"metaloop.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
