"""Real tables: all columns are nodes, and nobody knows the graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from metaloop import Draw, Key, TaskFamily
from metaloop.errors import DataError
from metaloop_basics.tasks.table import numbers, read
from numpy.typing import NDArray
from pydantic import Field

from metaloop_notears_topo.sem import DataSet, GraphSpec


class WholeTable(TaskFamily[DataSet, dict[str, Any]]):
    """One task: a table of numeric columns. Of it scores can be compared, and nothing else: the truth is not known."""

    source: str = Field(
        default="wine", description="`wine`, `diabetes`, `linnerud`, or a path to a CSV or Parquet file"
    )
    standardise: bool = Field(default=True, description="columns of mean 0 and variance 1")
    copies: int = Field(default=1, ge=1, description="tasks that are this table, for solvers that draw their start")

    @classmethod
    def example(cls) -> Self:
        """The smallest bundled table, twice."""
        return cls(source="linnerud", copies=2)

    @property
    def spec(self) -> GraphSpec:
        """As many nodes as the table has columns.

        Raises:
            DataError: the table can't be used.
        """
        values = self.values
        binary = not self.standardise and bool(np.isin(values, (0.0, 1.0)).all())
        return GraphSpec(nodes=values.shape[1], rows=values.shape[0], values="binary" if binary else "real")

    @property
    def size(self) -> int:
        """So many copies."""
        return self.copies

    @property
    def values(self) -> NDArray[np.float64]:
        """The table `[row, column]`.

        Raises:
            DataError: it can't be used, and which column is why.
        """
        return _loaded(self.source, _stamp(self.source), self.standardise)[0]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names."""
        return _loaded(self.source, _stamp(self.source), self.standardise)[1]

    def sample(self, state: dict[str, Any], n: int, key: Key) -> Draw[DataSet]:
        """The table, so many times; the tag is the copy's number."""
        x = torch.as_tensor(self.values, dtype=torch.get_default_dtype(), device=key.device)
        d = x.shape[1]
        number = torch.arange(n, device=key.device) if n == self.size else key.permutation(self.size)[:n]
        unknown = torch.full((n, d, d), torch.nan, dtype=x.dtype, device=key.device)
        return Draw(DataSet(x.expand(n, -1, -1).clone(), unknown, number), number)

    def columns(self, tasks: DataSet) -> Mapping[str, Sequence[Any]]:
        """The table's name and the copy's number."""
        return {"source": [Path(self.source).stem] * len(tasks.seed), "seed": tasks.seed.tolist()}


def _stamp(source: str) -> int:
    """Changes when the file does."""
    path = Path(source).expanduser()
    return path.stat().st_mtime_ns if path.is_file() else 0


@lru_cache(maxsize=8)
def _loaded(source: str, stamp: int, standardise: bool) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    frame = read(source).rename(columns=str)
    values = numbers(source, frame)
    constant = [name for name, spread in zip(frame.columns, np.ptp(values, 0), strict=True) if spread == 0]
    if constant:
        raise DataError(f"{source}: column {constant[0]!r} is constant, so it is no node of a graph: drop it")
    if standardise:
        values = (values - values.mean(0)) / values.std(0)
    return values, tuple(frame.columns)
