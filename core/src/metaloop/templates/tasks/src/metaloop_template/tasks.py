"""The tasks. Replace the parabolas with your own."""

from __future__ import annotations

from typing import Any, Self

from metaloop import Draw, Episode, Key, SupervisedSpec, TaskFamily
from pydantic import Field


class TemplateTasks(TaskFamily[Episode, dict[str, Any]]):
    """Regression on parabolas `y = a x^2 + b x + c`; coefficients and inputs are uniform on [-1, 1)."""

    shots: int = Field(default=10, ge=1, description="support examples per task")
    queries: int = Field(default=10, ge=1, description="query examples per task; their targets have no noise")
    noise: float = Field(default=0.0, ge=0, allow_inf_nan=False, description="standard deviation of support noise")

    @classmethod
    def example(cls) -> Self:
        """A few noisy examples, quick enough for a test."""
        return cls(shots=4, queries=3, noise=0.1)

    @property
    def spec(self) -> SupervisedSpec:
        """One input, one real target."""
        return SupervisedSpec(inputs=(1,), outputs=1, shots=self.shots, queries=self.queries)

    def sample(self, state: dict[str, Any], n: int, key: Key) -> Draw[Episode]:
        """`n` parabolas; every draw comes from `key`, so a task does not depend on the others of its batch."""
        keys = key.split(n)
        a, b, c = keys.fold("coefficients").uniform(3, 1, 1, low=-1.0).unbind(1)  # [task, 1, 1] each
        x = keys.fold("x").uniform(self.shots + self.queries, 1, low=-1.0)  # [task, row, 1]
        y = a * x**2 + b * x + c
        noise = self.noise * keys.fold("noise").normal(self.shots, 1)
        support, query = slice(None, self.shots), slice(self.shots, None)
        return Draw(Episode(x[:, support], y[:, support] + noise, x[:, query], y[:, query]))
