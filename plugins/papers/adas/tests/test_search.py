"""The search: its archive, its intervals, what it proposes, and that a program is a theta as any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from metaloop import Experiment, Key, UserError
from metaloop_adas import tree
from metaloop_adas.archive import Agent, Entry, best, bootstrap, mean
from metaloop_adas.blocks import Block, calls, make
from metaloop_adas.distance import distance
from metaloop_adas.learner import AgentSystem
from metaloop_adas.meta_agent import MetaAgent, Proposal
from metaloop_adas.search import ArchiveSearch
from metaloop_adas.seeds import agent, seeds
from metaloop_adas.tasks import Puzzles
from metaloop_adas.variation import TypedVariation, fitted, spelled

SEARCH = ArchiveSearch(samples=1000, seeds=("Chain of thought", "Self-refine"))


def experiment(**changes: object) -> Experiment:
    small = Experiment(
        tasks=Puzzles(count=20),
        learner=AgentSystem.example(),
        meta_optimizer=SEARCH,
        steps=3,
        task_batch=None,
        eval_on=Puzzles(split="test", count=4),
        eval_tasks=4,
        device="cpu",
    )
    return small.but(**changes)


def entry(own: Agent, scores: list[float], generation: int = 0, parents: tuple[int, ...] = ()) -> Entry:
    fitness = bootstrap(scores, 100, np.random.default_rng(0))
    return Entry(
        agent=own, generation=generation, parents=list(parents), scores=scores, fitness=fitness, calls=1.0, empty=0.0
    )


def test_the_bootstrap_is_that_of_resampled_scores() -> None:
    rng = np.random.default_rng(0)
    scores = [0.0, 0.2, 0.2, 1.0, 0.4, 0.0, 0.6, 1.0]
    fast = bootstrap(scores, 100_000, rng)
    plain = rng.choice(scores, (100_000, len(scores))).mean(1)
    for name, q in (("low", 0.025), ("median", 0.5), ("high", 0.975)):
        assert fast[name] == pytest.approx(np.quantile(plain, q), abs=0.011)  # type: ignore[literal-required]


def test_the_archive_keeps_what_ran_and_theta_is_the_best_on_validation(tmp_path: Path) -> None:
    result = experiment().run(root=tmp_path, quiet=True)
    archive = result.progress.meta["archive"]
    assert [e["generation"] for e in archive[:2]] == [0, 0]
    assert len(archive) == 2 + 3 - result.progress.meta["skipped"]
    assert result.theta == archive[best(archive)]["agent"]
    assert result.summary["best"] == pytest.approx(max(mean(e) for e in archive))
    assert 0 <= result.summary["eval/fitness"] <= 1
    for row, found in enumerate(archive):
        assert calls(Block.from_json(found["agent"]["blocks"])) <= 12
        assert all(parent < row for parent in found["parents"])


def test_a_search_that_was_stopped_ends_as_one_that_was_not(tmp_path: Path) -> None:
    straight = experiment().run(root=tmp_path, quiet=True)
    stopped = experiment(checkpoint_every=1).run(2, root=tmp_path, quiet=True)
    resumed = experiment(checkpoint_every=1).run(run=stopped.run, quiet=True)
    assert resumed.progress.meta == straight.progress.meta


class Broken(MetaAgent):
    """Proposes what does not run; mends it when it is told so for the second time."""

    def propose(self, archive: object, budget: int, key: Key) -> Proposal:
        return Proposal(Agent(name="0", thought="", code="def forward(self, taskInfo): return nothing", blocks=None))

    def reflect(self, proposal: Proposal, archive: object, budget: int, round: int, key: Key) -> Proposal:
        return proposal

    def debug(self, proposal: Proposal, error: str, archive: object, budget: int, key: Key) -> Proposal:
        assert "NameError" in error
        number = int(proposal.agent["name"]) + 1
        code = seeds()[0]["code"] if number == 2 else proposal.agent["code"]
        return Proposal(Agent(name=str(number), thought="", code=code, blocks=None))


@pytest.mark.parametrize(("attempts", "kept"), [(3, True), (2, False)])
def test_what_fails_is_debugged_and_skipped_if_it_never_runs(attempts: int, kept: bool) -> None:
    own = experiment(meta_optimizer=SEARCH.but(meta_agent=Broken(), attempts=attempts))
    progress = own.advance(own.begin())
    assert len(progress.meta["archive"]) == 2 + kept
    assert progress.meta["skipped"] == (not kept)


def test_edit_distance_by_hand() -> None:
    sample = make("sample", n=5)
    assert distance(sample, sample) == 0
    assert distance(sample, make("sample", n=6)) == pytest.approx(1 / 3)
    assert distance(sample, make("panel", n=5)) == 1
    assert distance(make("vote", sample), make("judge", sample)) == 1
    assert distance(make("union", sample, sample), make("union", sample, make("vote", sample))) == 2


@pytest.mark.parametrize("context", ["archive", "last", "seeds", "none"])
def test_proposals_are_new_affordable_and_of_their_context(context: str) -> None:
    meta = TypedVariation.model_validate({"context": context})
    late = agent("late", "", make("vote", make("panel", n=7)))
    archive = [entry(own, [0.0, 0.1 * i]) for i, own in enumerate(seeds())] + [entry(late, [1.0, 1.0], 1)]
    for i in range(25):
        proposal = meta.propose(archive, 12, Key.of(i))
        proposal = meta.reflect(proposal, archive, 12, 1, Key.of(i).fold("reflect"))
        block = Block.from_json(proposal.agent["blocks"] or [])
        assert calls(block) <= 12
        assert all(distance(block, Block.from_json(e["agent"]["blocks"] or [])) >= meta.novelty for e in archive)
        assert len(proposal.parents) <= (0 if context == "none" else 2)
        if context == "last":
            assert set(proposal.parents) == {7}
        if context == "seeds":
            assert 7 not in proposal.parents
        mended = meta.debug(proposal, "it fails", archive, 12, Key.of(i))
        assert calls(Block.from_json(mended.agent["blocks"] or [])) <= 12


@pytest.mark.parametrize("seed", range(5))
def test_agents_are_fitted_to_the_budget(seed: int) -> None:
    rng = np.random.default_rng(seed)
    small, large = make("vote", make("sample", n=1)), make("judge", make("debate", make("panel", n=12), rounds=11))
    assert fitted(small, 12, rng) == make("vote", make("sample", n=12))
    assert 9 < calls(fitted(large, 12, rng)) <= 12  # another sample, or another round, would be beyond it


def test_the_tree_is_one_page_that_quotes_what_agents_are_called() -> None:
    mean_name = Agent(name="<script>alert(1)</script>", thought="a & b", code="x < y", blocks=None)
    archive = [
        entry(seeds()[0], [0.0, 1.0]),
        entry(mean_name, [1.0, 1.0], 1, (0,)),
        entry(seeds()[1], [0.0, 0.0], 2, (0, 1)),
    ]
    page = tree.page(archive, "A search", {0: 0.25})
    assert "<script" not in page
    assert "http" not in page
    assert "prefers-color-scheme: dark" in page
    assert page.count("<circle") == 3
    assert page.count("<path") == 3
    assert page.count('class="best"') == 1
    assert tree.ancestors(archive, 2) == {0, 1, 2}


def test_mistakes_are_told() -> None:
    with pytest.raises(UserError, match="seeds: 'Reflexion' is none of"):
        ArchiveSearch(seeds=("Reflexion",))
    assert spelled(make("vote", make("sample", n=3))) == "sample 3 > vote"


def test_genetic_programming_spends_no_more_evaluations_than_it_has() -> None:
    pytest.importorskip("deap")
    from metaloop_adas import gp
    from metaloop_adas.seeds import SEEDS

    judged: list[Block] = []

    def judge(blocks: object) -> list[float]:
        judged.extend(blocks)  # type: ignore[arg-type]
        return [float(sum(inner.kind == "panel" for _, inner in b.walk())) for b in blocks]  # type: ignore[attr-defined]

    first = [block for _, block in SEEDS.values()]
    found = gp.evolve(judge, first, 60, 12, Key.of(0))
    assert len(judged) == 60
    assert judged[:7] == first
    assert all(calls(block) <= 12 for block in judged)
    assert found == max(judged, key=lambda b: sum(inner.kind == "panel" for _, inner in b.walk()))
