"""Episodes from tables: what is drawn, how it is scaled, and which files are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from metaloop.errors import DataError
from metaloop.key import Key
from metaloop_basics.tasks.table import TableEpisodes
from sklearn.datasets import load_diabetes


@pytest.fixture
def frame() -> pd.DataFrame:
    """40 rows; the column `row` tells them apart."""
    generator = np.random.default_rng(0)
    row = np.arange(40.0)
    return pd.DataFrame({"row": row, "size": generator.normal(5, 3, 40), "flag": row % 2 == 0, "price": 2 * row + 7})


@pytest.fixture
def csv(frame: pd.DataFrame, tmp_path: Path) -> str:
    frame.to_csv(tmp_path / "homes.csv", index=False)
    return str(tmp_path / "homes.csv")


def tasks_of(family: TableEpisodes, n: int = 200, seed: int = 0) -> Any:
    return family.sample({}, n, Key.of(seed)).tasks


def rows_seen(family: TableEpisodes) -> set[float]:
    tasks = tasks_of(family)
    return {round(v, 4) for v in torch.cat([tasks.support_x[..., 0], tasks.query_x[..., 0]], 1).flatten().tolist()}


def test_diabetes_is_standardised() -> None:
    family = TableEpisodes(shots=400, queries=42, input_std=12**-0.5, target_std=2.0)
    assert family.spec.inputs == (10,)
    tasks = tasks_of(family, 1)
    x = torch.cat([tasks.support_x, tasks.query_x], 1)[0].double()
    y = torch.cat([tasks.support_y, tasks.query_y], 1)[0].double()
    torch.testing.assert_close(x.mean(0), torch.zeros(10).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(x.var(0, correction=0), torch.full((10,), 1 / 12).double(), rtol=1e-5, atol=0)
    assert float(y.std(correction=0)) == pytest.approx(2.0)
    raw = load_diabetes().target
    expected = np.sort(2 * (raw - raw.mean()) / raw.std())
    np.testing.assert_allclose(y.squeeze().sort().values, expected, rtol=1e-5, atol=1e-6)


def test_features_and_target_stay_together(csv: str) -> None:
    """`price` is `2 row + 7`, so that both are the same when standardised."""
    tasks = tasks_of(TableEpisodes(source=csv))
    torch.testing.assert_close(tasks.support_x[..., :1], tasks.support_y)
    torch.testing.assert_close(tasks.query_x[..., :1], tasks.query_y)


def test_context_and_queries_are_different_rows(csv: str) -> None:
    tasks = tasks_of(TableEpisodes(source=csv, shots=25, queries=15))
    for row in torch.cat([tasks.support_y, tasks.query_y], 1).squeeze(-1):
        assert len(row.unique()) == 40


def test_splits_share_no_rows_and_miss_none(csv: str) -> None:
    family = TableEpisodes(source=csv, shots=4, queries=2, test_fraction=0.25)
    train, test = (rows_seen(family.but(split=split)) for split in ("train", "test"))
    assert (len(train), len(test)) == (30, 10)
    assert not train & test
    assert rows_seen(family.but(split="test", split_seed=1)) != test


def test_scaling_is_learned_from_the_train_split(csv: str) -> None:
    """Standardised by its own rows the train split is exact; the test split, by the train split's, is not."""
    family = TableEpisodes(source=csv, split="train", test_fraction=0.5, shots=19, queries=1)
    train, test = (tasks_of(family.but(split=split), 1) for split in ("train", "test"))
    y_train, y_test = (torch.cat([t.support_y, t.query_y], 1) for t in (train, test))
    assert float(y_train.mean()) == pytest.approx(0, abs=1e-6)
    assert float(y_train.std(correction=0)) == pytest.approx(1)
    assert abs(float(y_test.mean())) > 1e-3


def test_the_target_may_be_any_column(csv: str, frame: pd.DataFrame, tmp_path: Path) -> None:
    assert TableEpisodes(source=csv, target="size").spec.inputs == (3,)
    frame.to_parquet(tmp_path / "homes.parquet")
    ours, theirs = (tasks_of(TableEpisodes(source=s, target="size"), 5) for s in (csv, str(tmp_path / "homes.parquet")))
    assert all(torch.allclose(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_constant_feature_is_zero(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame.assign(size=3.0).to_csv(tmp_path / "t.csv", index=False)
    tasks = tasks_of(TableEpisodes(source=str(tmp_path / "t.csv")))
    assert (tasks.support_x[..., 1] == 0).all()


def test_a_file_that_changed_is_read_again(csv: str, frame: pd.DataFrame) -> None:
    family = TableEpisodes(source=csv)
    assert family.spec.inputs == (3,)
    frame.drop(columns="flag").to_csv(csv, index=False)
    assert family.spec.inputs == (2,)


def write(frame: pd.DataFrame, path: Path) -> str:
    frame.to_csv(path, index=False)
    return str(path)


def test_unusable_tables_are_refused(frame: pd.DataFrame, tmp_path: Path) -> None:
    text = frame["size"].astype(object)
    text[[4, 9]] = "big"
    cases: list[tuple[dict[str, Any], str]] = [
        ({"source": write(frame.assign(size=text), tmp_path / "a.csv")}, r"'size' holds text in 2 of 40 rows \(row 5 "),
        ({"source": write(frame.assign(price=text), tmp_path / "b.csv")}, "'price' holds text in 2 of 40 rows"),
        (
            {"source": write(frame.assign(size=[np.nan] * 3 + [1.0] * 37), tmp_path / "c.csv")},
            "'size' has no value in 3 of",
        ),
        ({"source": write(frame.assign(size=[np.inf] + [1.0] * 39), tmp_path / "d.csv")}, "infinite values in 1 of"),
        ({"source": write(frame.assign(price=1), tmp_path / "e.csv")}, "'price' is constant"),
        (
            {"source": write(frame[:6], tmp_path / "f.csv"), "shots": 5, "queries": 2},
            "has 6 rows, and an episode takes 7",
        ),
        ({"source": write(frame[["row"]], tmp_path / "g.csv")}, "1 columns"),
        ({"source": write(frame, tmp_path / "h.csv"), "target": "prise"}, "no column 'prise'.*Did you mean 'price'"),
        ({"source": write(frame, tmp_path / "h.csv"), "split": "test"}, "'test' split has 8 rows, and .* takes 20"),
        ({"source": str(tmp_path / "none.csv")}, "no file"),
        ({"source": "diabets"}, "Did you mean 'diabetes'"),
        ({"source": __file__}, r"not from '\.py'"),
    ]
    (tmp_path / "empty.csv").touch()
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 not really")
    cases += [({"source": str(tmp_path / name)}, "can't be read") for name in ("empty.csv", "torn.parquet")]
    dates = frame.assign(size=pd.Timestamp("2020-01-01"))
    dates.to_parquet(tmp_path / "dates.parquet")
    cases.append(({"source": str(tmp_path / "dates.parquet")}, "'size' holds dates in 40 of 40"))
    for fields, reason in cases:
        with pytest.raises(DataError, match=reason) as caught:
            _ = TableEpisodes(**fields).spec
        assert "\n" not in str(caught.value)
