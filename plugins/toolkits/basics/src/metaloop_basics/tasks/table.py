"""Regression episodes from the rows of a table: a bundled data set, or a CSV or Parquet file."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np
import torch
from metaloop.errors import DataError
from metaloop.key import Key
from metaloop.outcome import Draw, Episode
from metaloop.plugins import nearest
from metaloop.specs import SupervisedSpec
from metaloop.tasks import TaskFamily
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from metaloop_basics.tasks.sampling import distinct

if TYPE_CHECKING:
    import pandas as pd

BUNDLED = ("diabetes", "linnerud", "wine")
"""Tables that come with scikit-learn."""
_READERS = {".csv": "read_csv", ".tsv": "read_table", ".parquet": "read_parquet", ".pq": "read_parquet"}


class Table(NamedTuple):
    """A split's rows, standardised."""

    x: Tensor
    """`[row, feature]`."""
    y: Tensor
    """`[row, 1]`."""


class TableEpisodes(TaskFamily[Episode, dict[str, Any]]):
    """Each task is a random context of `shots` rows and `queries` other rows of one table.

    Features and target are standardised by the mean and standard deviation of the rows that may be learned from
    (those of the `train` split, or all), then multiplied by `input_std` and `target_std`.
    """

    source: str = Field(
        default="diabetes", description="`diabetes`, `linnerud`, `wine`, or a path to a CSV or Parquet file"
    )
    target: str | None = Field(default=None, description="column to predict; None: the last one")
    shots: int = Field(default=10, ge=1, description="rows of the context")
    queries: int = Field(default=10, ge=1, description="rows to predict")
    split: Literal["all", "train", "test"] = Field(default="all", description="which rows episodes are drawn from")
    test_fraction: float = Field(default=0.2, gt=0, lt=1, description="share of rows in the test split")
    split_seed: int = Field(default=0, ge=0, description="names which rows are in the test split")
    input_std: float = Field(
        default=1.0, gt=0, allow_inf_nan=False, description="features' standard deviation: 12^-0.5 is U(-1/2, 1/2)'s"
    )
    target_std: float = Field(default=1.0, gt=0, allow_inf_nan=False, description="the target's standard deviation")

    @classmethod
    def example(cls) -> Self:
        """Small contexts of the smaller bundled table."""
        return cls(source="linnerud", shots=4, queries=3)

    @property
    def spec(self) -> SupervisedSpec:
        """As many inputs as the table has features.

        Raises:
            DataError: the table can't be used.
        """
        width = self.table(torch.device("cpu")).x.shape[1]
        return SupervisedSpec(inputs=(width,), outputs=1, shots=self.shots, queries=self.queries)

    def sample(self, state: dict[str, Any], n: int, key: Key) -> Draw[Episode]:
        """Rows without replacement: context and queries of a task are disjoint."""
        x, y = self.table(key.device)
        rows = distinct(key.split(n), len(x), self.shots + self.queries)
        context, query = rows[:, : self.shots], rows[:, self.shots :]
        return Draw(Episode(x[context], y[context], x[query], y[query]))

    def table(self, device: torch.device) -> Table:
        """The split's rows on a device.

        Raises:
            DataError: the table can't be used.
        """
        return _on(self, _stamp(self.source), device, torch.get_default_dtype())


def _stamp(source: str) -> tuple[int, int]:
    """Changes when the file does."""
    path = Path(source).expanduser()
    if source in BUNDLED or not path.is_file():
        return 0, 0
    status = path.stat()
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=8)
def _on(family: TableEpisodes, stamp: tuple[int, int], device: torch.device, dtype: torch.dtype) -> Table:
    """Kept, for every outer step draws from it."""
    x, y = _split(family, stamp)
    return Table(*(torch.as_tensor(part, dtype=dtype, device=device) for part in (x, y)))


@lru_cache(maxsize=8)
def _split(family: TableEpisodes, stamp: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Standardised features `[row, feature]` and target `[row, 1]` of the family's split."""
    frame = read(family.source).rename(columns=str)
    target = _target(family, list(frame.columns))
    x, y = numbers(family.source, frame.drop(columns=target)), numbers(family.source, frame[[target]])
    order = Key.of(family.split_seed).permutation(len(x)).numpy()
    test = max(1, round(family.test_fraction * len(x)))
    rows = {"all": order, "test": order[:test], "train": order[test:]}
    mine, learned_from = rows[family.split], rows["all" if family.split == "all" else "train"]
    needed = family.shots + family.queries
    if len(mine) < needed:
        raise DataError(
            f"{family.source}: the {family.split!r} split has {len(mine)} rows, and an episode takes {needed} "
            "(shots + queries): lower one of them, or change split or test_fraction"
        )
    if np.ptp(y[learned_from]) == 0:
        raise DataError(f"{family.source}: the target column {target!r} is constant, there is nothing to predict")
    return _standard(x, learned_from, family.input_std)[mine], _standard(y, learned_from, family.target_std)[mine]


def _standard(values: NDArray[np.float64], rows: NDArray[np.int64], std: float) -> NDArray[np.float64]:
    """Columns of mean 0 and standard deviation `std` over `rows`; a constant column becomes 0."""
    spread = values[rows].std(0)
    scaled: NDArray[np.float64] = std * (values - values[rows].mean(0)) / np.where(spread > 0, spread, 1.0)
    return scaled


def read(source: str) -> pd.DataFrame:
    """The whole table of a bundled name or a file, as it is.

    Raises:
        DataError: there is no such file, or it is no table.
    """
    import pandas as pd

    if source in BUNDLED:
        from sklearn import datasets

        frame: pd.DataFrame = getattr(datasets, f"load_{source}")(as_frame=True).frame
        return frame
    path = Path(source).expanduser()
    if not path.is_file():
        hint = "" if path.suffix else nearest(source, BUNDLED)
        raise DataError(f"source: there is no file {source!r}, and no bundled table of that name.{hint}")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"{source}: tables are read from {', '.join(_READERS)} files, not from {path.suffix or 'this'!r}"
        )
    try:
        frame = getattr(pd, reader)(path)
    except (ValueError, OSError) as error:  # pandas' and pyarrow's own errors derive from these
        raise DataError(f"{source} can't be read as a table: {str(error).splitlines()[0]}") from error
    if len(frame.columns) < 2 or len(frame) == 0:
        raise DataError(
            f"{source} has {len(frame.columns)} columns and {len(frame)} rows: a feature and a target are needed "
            "(are values separated by commas?)"
        )
    return frame


def _target(family: TableEpisodes, columns: list[str]) -> str:
    if family.target is None:
        return columns[-1]
    if family.target not in columns:
        hint = nearest(family.target, columns)
        raise DataError(f"{family.source} has no column {family.target!r} to be the target.{hint}")
    return family.target


def numbers(source: str, frame: pd.DataFrame) -> NDArray[np.float64]:
    """A table's columns as floats `[row, column]`; `source` is what its errors call it.

    Raises:
        DataError: a column holds text, dates or missing values; says which, and in how many rows.
    """
    import pandas as pd

    for name in frame.columns:
        column = frame[name]
        missing = int(column.isna().sum())
        if missing:
            raise DataError(
                f"{source}: column {name!r} has no value in {missing} of {len(frame)} rows: fill or drop them"
            )
        if pd.api.types.is_numeric_dtype(column):
            bad = ~np.isfinite(column.to_numpy(dtype=np.float64))
            kind = "infinite values"
        elif pd.api.types.is_datetime64_any_dtype(column):
            bad, kind = np.ones(len(column), dtype=bool), "dates"
        else:
            bad, kind = pd.to_numeric(column.astype(str), errors="coerce").isna().to_numpy(), "text"
        if bad.any():
            first = int(bad.argmax())
            raise DataError(
                f"{source}: column {name!r} holds {kind} in {int(bad.sum())} of {len(frame)} rows "
                f"(row {first + 1} of the data: {column.iloc[first]!r}): only numeric columns can be used"
            )
    return frame.to_numpy(dtype=np.float64)
