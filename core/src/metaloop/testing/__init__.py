"""The conformance suite: named checks of what every component promises, the same for our plugins and others'.

    from metaloop import testing

    @testing.parametrize(MyLearner(steps=2), tasks=MyTasks())
    def test_conforms(check):
        check()

or, in one go and without pytest, `testing.check_learner(MyLearner(steps=2), MyTasks())`.
"""

from metaloop.testing.components import check_component
from metaloop.testing.families import check_task_family
from metaloop.testing.learners import check_learner
from metaloop.testing.meta_optimizers import check_meta_optimizer
from metaloop.testing.model import Case, CheckFailed, CheckResult
from metaloop.testing.plugin import check_plugin
from metaloop.testing.select import cases, parametrize

__all__ = [
    "Case",
    "CheckFailed",
    "CheckResult",
    "cases",
    "check_component",
    "check_learner",
    "check_meta_optimizer",
    "check_plugin",
    "check_task_family",
    "parametrize",
]
