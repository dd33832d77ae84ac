"""The search: optima, what ends it, and how it goes with other learners' graphs."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pandas as pd
import pytest
import torch
from metaloop import Experiment, Incompatible, Key, UserError
from metaloop.errors import DataError
from metaloop_basics.learners.ridge import Ridge
from metaloop_notears_topo.graphs import topological
from metaloop_notears_topo.logistic import Logistic
from metaloop_notears_topo.measures import improving
from metaloop_notears_topo.model import LeastSquares
from metaloop_notears_topo.peers import Dagma
from metaloop_notears_topo.sem import SEM, DataSet
from metaloop_notears_topo.tables import WholeTable
from metaloop_notears_topo.topo import Search, Topo
from torch import Tensor


def searched(tasks: SEM | WholeTable, learner: Topo) -> tuple[pd.DataFrame, Search, DataSet]:
    """The table, the state and the tasks at the end."""
    from metaloop.result import table

    experiment = Experiment(tasks=tasks, learner=learner, task_batch=None, precision="float64", device="cpu")
    progress = experiment.begin()
    for _ in range(experiment.total_steps):
        progress = experiment.advance(progress)
    return table(experiment, progress), progress.carry.state, progress.carry.draw.tasks


def lowest(tasks: DataSet) -> Tensor:
    """Q of the best of all orders, `[task]`."""
    d, model = tasks.x.shape[2], LeastSquares()
    orders = torch.tensor(list(permutations(range(d))))
    fit = model.begin(tasks.x, orders[: len(tasks.x)], Key.of(0))
    return torch.stack([model.score(one.expand(len(orders), -1, -1), orders).min() for one in fit])


@pytest.mark.parametrize("noise", ["gauss", "exp", "gumbel"])
def test_on_small_graphs_the_search_ends_at_the_optimum_of_brute_force_or_hardly_above(noise: str) -> None:
    family = SEM(nodes=6, degree=2, noise=noise, rows=500, seeds=tuple(range(8)))
    table, state, tasks = searched(family, Topo(steps=30, small=15, large=15))
    above = state.score / lowest(tasks) - 1
    assert float(above.min()) > -1e-9
    assert float(above.max()) < 1e-3  # an exchange leads nowhere better there
    assert int((above < 1e-9).sum()) >= 7
    assert table["shd"].mean() < 1
    assert table["gap"].abs().max() < 0.02


def test_where_a_search_with_all_pairs_ends_no_pair_improves_and_it_stays_there() -> None:
    learner = Topo(steps=40, small=10, large=66, large_searches=100)
    _, state, tasks = searched(SEM(nodes=12, degree=2, graph="SF", rows=300, seeds=(0, 1, 2)), learner)
    assert bool(state.done.all())
    assert improving(learner, state, tasks.x).tolist() == [0, 0, 0]
    assert len(set(state.rounds.tolist())) > 1  # searches end at different rounds
    again = learner.step({}, state, tasks, None, Key.of(9).split(3))
    assert again is state


def test_scores_fall_from_round_to_round_and_stand_in_the_trace() -> None:
    _, state, _ = searched(SEM(nodes=10, degree=2, rows=300, seeds=(0, 1)), Topo(steps=25, small=8, large=20))
    for trace, rounds, score in zip(state.trace, state.rounds.tolist(), state.score, strict=True):
        falls = trace[: rounds + 1].diff()
        assert bool((falls <= 0).all())
        assert trace[rounds] == score
        assert bool(trace[rounds + 1 :].isnan().all())


@pytest.mark.parametrize("changes", [{"rule": "code"}, {"update": "first"}, {"swap": "after"}, {"swap": "before"}])
def test_every_way_to_search_finds_the_graph(changes: dict[str, str]) -> None:
    table, _, _ = searched(SEM(nodes=8, degree=1, rows=500, seeds=(0, 1, 2)), Topo(steps=60, small=28).but(**changes))
    assert table["gap"].max() < 0.005
    assert table["shd"].mean() < 1


def test_another_learners_graph_is_where_the_search_begins() -> None:
    pytest.importorskip("dagma")
    family = SEM(nodes=5, degree=1, rows=200, seeds=(0,))
    table, state, _ = searched(family, Topo(steps=10, start=Topo(steps=1, small=1)))
    assert float(table["start_score"][0]) == pytest.approx(float(state.trace[0, 0]))
    assert float(table["loss"][0]) <= float(table["start_score"][0])
    assert topological(state.start).shape == (1, 5)
    assert not bool(state.start.isnan().any())
    with pytest.raises(Incompatible, match="start: Ridge finds no graph"):
        Experiment(tasks=family, learner=Topo(start=Ridge()))


def test_dagma_is_a_learner_on_the_same_tasks_and_leaves_global_state_alone() -> None:
    pytest.importorskip("dagma")
    from metaloop_notears_topo import peers

    family = SEM(nodes=4, degree=1, rows=200, seeds=(0,))
    learner = Dagma(iterations=1000)
    out = Experiment(tasks=family, learner=learner, task_batch=None, device="cpu").evaluate({}, n=1)
    assert float(out.metrics["shd"]) <= 3
    assert torch.get_default_dtype() == torch.float32
    assert not peers.installed("no_such_package")


def test_binary_data_by_the_logistic_model() -> None:
    family = SEM(nodes=6, degree=1, mechanism="logistic", rows=1500, seeds=(0,))
    table, _, _ = searched(family, Topo(steps=15, small=5, large=15, model=Logistic()))
    assert float(table["gap"][0]) < 0.005
    with pytest.raises(Incompatible, match="columns of 0 and 1"):
        Experiment(tasks=SEM(nodes=6, degree=1), learner=Topo(model=Logistic()))


def test_a_users_table_is_searched_and_its_mistakes_are_named(tmp_path: Path) -> None:
    x = Key.of(0).normal(80, 3)
    frame = pd.DataFrame({"a": x[:, 0], "b": 2 * x[:, 0] + x[:, 1], "c": x[:, 2]})
    good = tmp_path / "good.parquet"
    frame.to_parquet(good)
    table, _, _ = searched(WholeTable(source=str(good), copies=2), Topo(steps=5))
    assert table["source"].tolist() == ["good", "good"]
    assert table["shd"].isna().all()
    bad = {
        "text": (frame.assign(b="x"), "column 'b' holds text"),
        "same": (frame.assign(c=1.0), "column 'c' is constant"),
        "gaps": (frame.assign(a=frame["a"].where(frame["a"] > 0)), "column 'a' has no value"),
    }
    for name, (wrong, message) in bad.items():
        wrong.to_csv(tmp_path / f"{name}.csv", index=False)
        with pytest.raises(DataError, match=message):
            Experiment(tasks=WholeTable(source=str(tmp_path / f"{name}.csv")), learner=Topo())
    with pytest.raises(Incompatible, match="more rows than columns"):
        Experiment(tasks=SEM(nodes=6, degree=1, rows=6), learner=Topo())
    with pytest.raises(UserError, match="room for at most 2 edges"):
        SEM(nodes=6, degree=3)


def test_columns_that_say_the_same_are_a_users_mistake() -> None:
    model, same = LeastSquares(jitter=0.0), torch.ones(1, 2, 2, dtype=torch.float64)
    with pytest.raises(UserError, match="the covariance is singular"):
        model.score(same, torch.tensor([[0, 1]]))


def test_real_data_have_a_lower_score_after_the_search() -> None:
    table, state, _ = searched(WholeTable(source="wine", copies=3), Topo(steps=30))
    assert (table["loss"] < table["start_score"]).all()
    assert float(state.score.max() / state.score.min()) < 1.05


@pytest.mark.parametrize("graph", ["ER", "SF"])
@pytest.mark.parametrize("mechanism", ["linear", "logistic", "mlp", "mim", "gp", "gp-add"])
def test_data_sets_have_the_edges_that_they_say(graph: str, mechanism: str) -> None:
    family = SEM(nodes=9, degree=2, graph=graph, mechanism=mechanism, rows=40, seeds=(0, 1), noise="gumbel")
    tasks = family.sample(family.begin(Key.of(0)), 2, Key.of(1)).tasks
    expected = 18 if graph == "ER" else 15  # the oldest two can't have two older neighbours
    assert family.columns(tasks)["true_edges"] == [expected, expected]
    topological(tasks.weights)
    assert bool(tasks.x.isfinite().all())


def test_noise_has_the_law_that_it_says() -> None:
    from metaloop_notears_topo.sem import _noise

    means = {"gauss": 0.0, "exp": 1.0, "gumbel": 0.5772, "uniform": 0.0}
    for law, mean in means.items():
        assert float(_noise(law, Key.of(0), 100_000).mean()) == pytest.approx(mean, abs=0.02)
