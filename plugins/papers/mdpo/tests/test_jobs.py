"""Jobs at the gpu profile's shapes for one step, and peers that spend what MDPO spends."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from metaloop import Key, Pipeline, UserError
from metaloop.overrides import override
from metaloop_mdpo import baselines, jobs
from metaloop_mdpo.baselines import Peer
from metaloop_mdpo.contest import Budget, budget_of, contest, fitted
from metaloop_mdpo.off_policy import OffPolicyGym
from metaloop_mdpo.on_policy import OnPolicyGym
from metaloop_mdpo.plugin import SPEC
from metaloop_mdpo.stages import BesidePeers
from metaloop_rl.tasks import GymTasks

CARTS = GymTasks(id="CartPole-v1")


@pytest.mark.parametrize("name", ["mdpo", "mdpo/minimal", "mdpo/off-policy"])
def test_one_step_at_the_papers_shapes(name: str, tmp_path: Path) -> None:
    job = next(job for job in SPEC.jobs if job.id == name)
    made: Pipeline = getattr(jobs, job.target.partition(":")[2])("gpu")
    result = override(made, [*job.dry]).run(root=tmp_path, quiet=True)
    [picture] = result.run.artifacts()
    assert picture.stat().st_size > 5000
    assert result.closing
    found = result.summary["peers"]
    assert len(found) == 3
    assert all(math.isfinite(row["mean"]) and row["n"] == 2 for row in found.values())
    json.dumps(result.summary)


def test_the_papers_settings() -> None:
    on = jobs.on_policy("gpu").stages["mdpo"]
    learner = on.learner
    assert (learner.batch, learner.sgd_steps, learner.lr, learner.gamma, learner.lam) == (2048, 10, 3e-4, 0.99, 0.95)
    assert (learner.steps * learner.batch // 10**6, on.task_batch, learner.critic.widths) == (10, 5, (256, 256))
    off = jobs.off_policy("gpu").stages["mdpo-kl"].learner
    assert (off.sgd_steps, off.klcoeff, off.entropy, off.q, off.tau, off.rows) == (1000, 1.0, 0.2, 1.0, 0.005, 256)
    assert (off.warmup, off.capacity, off.critic.widths) == (10_000, 1_000_000, (256, 256))
    assert budget_of(off).steps == 10**6


def test_contenders_spend_the_same() -> None:
    budget = Budget(steps=256, row=64, copies=2)
    contenders = {"mdpo": OnPolicyGym.example(), "TRPO": Peer(algorithm="TRPO"), "PPO": Peer()}
    found = contest(contenders, CARTS, budget, [0, 1])
    for courses in found.values():
        assert [[row["steps"] for row in course] for course in courses] == [[64.0, 128.0, 192.0, 256.0]] * 2
        assert courses[0] != courses[1]
    assert all("kl" in row for name in ("mdpo", "TRPO") for row in found[name][0])
    assert budget_of(fitted(OnPolicyGym(), budget)) == budget
    off = OffPolicyGym(warmup=64)
    assert budget_of(fitted(off, budget)) == budget


def test_a_peer_is_the_same_for_the_same_seed() -> None:
    [task] = CARTS.sample({}, 1, Key.of(0)).tasks
    runs = [Peer().train(task, 128, seed=seed, copies=2, batch=64) for seed in (3, 3, 4)]
    assert runs[0] == runs[1] != runs[2]


def test_without_the_peers_mdpo_runs_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(baselines, "find_spec", lambda name: None)
    mdpo = jobs.training(CARTS, OnPolicyGym.example(), 2)
    result = Pipeline(stages={"mdpo": mdpo, "peers": BesidePeers()}).run(root=tmp_path, quiet=True)
    assert set(result.summary["peers"]) == {"mdpo"}
    assert any("metaloop-mdpo[peers]" in str(shown) for shown in result.closing)


def test_the_stage_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'mdpo', which is no earlier experiment"):
        Pipeline(stages={"peers": BesidePeers()}).run(root=tmp_path, quiet=True)


def test_what_can_not_be_compared_is_refused(tmp_path: Path) -> None:
    one, other = (jobs.training(CARTS, OnPolicyGym.example().but(steps=steps), 1) for steps in (1, 2))
    beside = BesidePeers(trained=("one", "other"), peers=())
    with pytest.raises(UserError, match="one, other differ in tasks, budget"):
        Pipeline(stages={"one": one, "other": other, "peers": beside}).run(root=tmp_path, quiet=True)
