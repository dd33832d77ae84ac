"""Named checks, how they are run, and what comes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from metaloop.plugins import reason
from metaloop.testing.compare import isolated

Subject = TypeVar("Subject")
Case = tuple[str, Callable[[], None]]
"""A check's name, and a function that raises AssertionError where the check fails."""
OnFail = Literal["raise", "return"]


@dataclass(frozen=True)
class CheckResult:
    """What came of one check."""

    name: str
    status: Literal["passed", "failed", "expected", "surprise"]
    """`expected`: it failed, as announced; `surprise`: it was announced to fail, and passed."""
    message: str = ""
    """One sentence: what is wrong, or the reason announced."""
    error: Exception | None = field(default=None, repr=False, compare=False)

    @property
    def ok(self) -> bool:
        """Whether nobody has to act on it."""
        return self.status in ("passed", "expected")


class CheckFailed(AssertionError):  # noqa: N818 (reads as what it is)
    """A component does not conform; the message lists the failed checks with one sentence each."""

    def __init__(self, subject: str, results: Iterable[CheckResult]) -> None:
        self.results = list(results)
        failed = [result for result in self.results if not result.ok]
        lines = [f"{subject}: {len(failed)} of {len(self.results)} conformance checks failed"]
        super().__init__("\n".join([*lines, *(f"  {result.name}: {result.message}" for result in failed)]))


class Suite(Generic[Subject]):
    """Checks of one kind of subject: functions of it, named as they are."""

    def __init__(self) -> None:
        self._checks: list[tuple[Callable[[Subject], None], Callable[[Subject], bool]]] = []

    def check(self, check: Callable[[Subject], None]) -> Callable[[Subject], None]:
        """Add a check that every subject must pass."""
        return self.when(lambda subject: True)(check)

    def when(
        self, applies: Callable[[Subject], bool]
    ) -> Callable[[Callable[[Subject], None]], Callable[[Subject], None]]:
        """Add a check for the subjects that it applies to, by what they declare."""

        def add(check: Callable[[Subject], None]) -> Callable[[Subject], None]:
            self._checks.append((check, applies))
            return check

        return add

    def names(self) -> list[str]:
        """The names of all checks."""
        return [check.__name__ for check, _ in self._checks]

    def cases(self, subject: Subject) -> Iterator[Case]:
        """The checks that apply to a subject, as functions without arguments."""
        for check, applies in self._checks:
            if applies(subject):
                yield check.__name__, _bound(check, subject)


def _bound(check: Callable[[Subject], None], subject: Subject) -> Callable[[], None]:
    def run() -> None:
        with isolated():
            check(subject)

    return run


def run(
    subject: str, cases: Iterable[Case], expected_failures: Mapping[str, str] | None, on_fail: OnFail
) -> list[CheckResult]:
    """Run all cases.

    Raises:
        CheckFailed: a check failed that was not expected to, or passed although it was; not with `on_fail="return"`.
    """
    expected = dict(expected_failures or {})
    results = [_result(name, case, expected.pop(name, None)) for name, case in cases]
    results += [_unknown(name) for name in expected]
    failed = [result for result in results if not result.ok]
    if failed and on_fail == "raise":
        raise CheckFailed(subject, results) from failed[0].error
    return results


def strict(cases: Iterable[Case], expected_failures: Mapping[str, str] | None) -> list[Case]:
    """The cases such that one that is expected to fail passes where it fails, and fails where it passes."""
    expected = dict(expected_failures or {})
    found = [(name, _demanding(name, case, expected.pop(name, None))) for name, case in cases]
    return found + [(name, _refusing(name)) for name in expected]


def _demanding(name: str, case: Callable[[], None], announced: str | None) -> Callable[[], None]:
    if announced is None:
        return case

    def demand() -> None:
        result = _result(name, case, announced)
        if not result.ok:
            raise AssertionError(result.message)

    return demand


def _refusing(name: str) -> Callable[[], None]:
    def refuse() -> None:
        raise AssertionError(_unknown(name).message)

    return refuse


def _unknown(name: str) -> CheckResult:
    return CheckResult(name, "failed", "expected_failures names it, but no check of that name applies here")


def _result(name: str, case: Callable[[], None], announced: str | None) -> CheckResult:
    try:
        case()
    except Exception as error:
        if announced is not None:
            return CheckResult(name, "expected", announced, error)
        message = str(error) if type(error) is AssertionError else f"it raised {reason(error)}"
        return CheckResult(name, "failed", message or "an assert failed", error)
    if announced is not None:
        return CheckResult(name, "surprise", f"it passes, but was expected to fail ({announced}): remove the entry")
    return CheckResult(name, "passed")
