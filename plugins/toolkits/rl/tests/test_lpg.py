"""Learned Policy Gradient: the network, one update, whole lives under gradients and under populations."""

from __future__ import annotations

import pytest
import torch
from metaloop import Experiment, Key, UserError, tree
from metaloop.learner import to_rows
from metaloop.outcome import Clock
from metaloop.precision import default_dtype
from metaloop.testing import check_learner, check_task_family
from metaloop_basics.meta_optimizers.evolution import EvolutionStrategy
from metaloop_basics.meta_optimizers.gradient import TruncatedGradient
from metaloop_basics.models import Mlp
from metaloop_rl.envs.grid import GridWorld
from metaloop_rl.learners.lpg import Lpg
from metaloop_rl.learners.lpg_agent import Heads, View
from metaloop_rl.learners.lpg_network import Experience, LpgNetwork
from metaloop_rl.tasks import Environments
from torch import Tensor
from torch.nn.functional import kl_div

GRIDS = Environments(env=GridWorld.example().but(view="index"), lifetimes=(1, 4))
TABLES = Lpg.example().but(heads=Heads(time_scale=0.001))
NETWORKS = Lpg.example().but(heads=Heads(model=Mlp.example(), time_scale=0.001))


def clock(step: list[int], lifetime: list[int]) -> Clock:
    return Clock(torch.tensor(step), torch.tensor(lifetime))


def experience(network: LpgNetwork, time: int = 6) -> Experience:
    key, shape = Key.of(3), (2, time, 3)
    done = key.fold("done").uniform(*shape) < 0.3
    y = key.fold("y").normal(2, time + 1, 3, network.predictions).softmax(-1)
    return Experience(key.fold("reward").normal(*shape), done, key.fold("p").uniform(*shape), y)


def test_learners_and_families_keep_their_promises() -> None:
    check_task_family(GRIDS)
    # What the rule reads of an agent is cut from the graph, as in the papers.
    cut = {"gradient_equals_differences": "pi and y are inputs without a gradient"}
    check_learner(TABLES, GRIDS, expected_failures=cut)
    check_learner(NETWORKS.but(critic=False), Environments())  # whose first steps are too small for that to show


def test_the_network_is_torchs_gru_run_backwards_and_started_anew_where_episodes_end() -> None:
    network = LpgNetwork(hidden=5, time_inputs="relative")
    theta, seen, at = network.init(Key.of(0)), experience(network), clock([3, 10], [12, 40])
    said = network(theta, seen, at)
    gru = torch.nn.GRUCell(7, 5)
    with torch.no_grad():
        gru.weight_ih.copy_(theta["gru.input.weight"])
        gru.weight_hh.copy_(theta["gru.recurrent.weight"])
        gru.bias_ih.copy_(theta["gru.input.bias"])
        gru.bias_hh.copy_(torch.cat([torch.zeros(10), theta["gru.recurrent.bias"]]))

    def e(y: Tensor) -> Tensor:
        inner = (y @ theta["embed.hidden.weight"].T + theta["embed.hidden.bias"]).relu()
        return (inner @ theta["embed.out.weight"].T + theta["embed.out.bias"])[..., 0]

    for task, worker in ((0, 1), (1, 2)):
        h, step, life = torch.zeros(5), float(at.step[task]), float(at.lifetime[task])
        for t in reversed(range(6)):
            over = float(seen.done[task, t, worker])
            now, then = e(seen.y[task, t, worker]), e(seen.y[task, t + 1, worker])
            first = (seen.reward[task, t, worker], torch.tensor(over), seen.probability[task, t, worker])
            x = torch.stack([*first, now, (1 - over) * then, *torch.tensor([step / life, life]).log().exp()])
            x[-1] = x[-1].log()
            h = gru(x, h * (1 - over))
            out = h.relu()
            pi_hat = out @ theta["pi.weight"][0] + theta["pi.bias"][0]
            y_hat = (theta["y.weight"] @ out + theta["y.bias"]).log_softmax(-1)
            assert torch.allclose(said.pi_hat[task, t, worker], pi_hat, atol=1e-5)
            assert torch.allclose(said.log_y_hat[task, t, worker], y_hat, atol=1e-5)


def test_what_a_rule_says_depends_on_time_only_where_it_is_told() -> None:
    early, late, longer = clock([0, 0], [8, 8]), clock([6, 6], [8, 8]), clock([0, 0], [64, 64])
    for inputs, changes in (("off", False), ("relative", True), ("raw", True)):
        network = LpgNetwork(hidden=5, time_inputs=inputs)
        theta, seen = network.init(Key.of(0)), experience(network)
        first = network(theta, seen, early).pi_hat
        for other in (late, longer):
            assert torch.equal(first, network(theta, seen, other).pi_hat) is not changes


def test_parameters_of_each_task_give_what_they_give_alone() -> None:
    network = LpgNetwork(hidden=5, time_inputs="relative")
    rules, seen, at = [network.init(Key.of(i)) for i in range(2)], experience(network), clock([3, 10], [12, 40])
    together = network(tree.stack(rules), seen, at)
    for i, rule in enumerate(rules):
        alone = network(rule, seen, at)
        assert torch.allclose(together.pi_hat[i], alone.pi_hat[i], atol=1e-5)
        assert torch.allclose(together.log_y_hat[i], alone.log_y_hat[i], atol=1e-5)


@pytest.mark.parametrize("learner", [TABLES, NETWORKS], ids=["tables", "networks"])
def test_one_update_descends_the_papers_loss_as_autograd_has_it(learner: Lpg) -> None:
    with default_dtype(torch.float64):
        family = GRIDS if learner is TABLES else Environments()
        learner = learner.but(heads=learner.heads.but(clip=1e-3))  # so small that it binds
        theta = learner.init(family.spec, Key.of(0))
        tasks, keys = family.sample({}, 3, Key.of(1)).tasks, Key.of(2).split(3)
        state, at = learner.begin(theta, tasks, keys), clock([0, 0, 0], [2, 3, 4])
        happened, state = learner.act(state, tasks, keys)
        actor, predictor, _ = learner.improved(theta, state, happened, at)
        values = [{n: v.clone().requires_grad_() for n, v in w.values.items()} for w in (state.actor, state.predictor)]
        rows, shape = happened.reward[0].numel(), happened.reward.shape
        acted = View(*(part[:, :rows] for part in happened.seen))
        log_pi = learner.heads.outputs(values[0], acted).log_softmax(-1)
        log_pi = log_pi.gather(-1, happened.action.flatten(1)[..., None])[..., 0]
        every = learner.heads.outputs(values[1], happened.seen).softmax(-1)
        seen = Experience(
            happened.reward,
            happened.done,
            log_pi.detach().exp().reshape(shape),
            every.detach().reshape(3, shape[1] + 1, shape[2], -1),
        )
        said = learner.network(theta, seen, at)
        y = every[:, :rows].log()
        kl = kl_div(said.log_y_hat.flatten(1, 2), y, log_target=True, reduction="none").sum(-1)
        loss = (log_pi * said.pi_hat.flatten(1)).mean(1) + learner.alpha_y * kl.mean(1)
        loss.sum().backward()
        for own, before, after, lr in (
            (values[0], state.actor, actor, learner.lr),
            (values[1], state.predictor, predictor, learner.predictor_lr),
        ):
            slope = {name: value.grad for name, value in own.items()}
            expected = learner.heads.descend(before, slope, lr)
            for name, value in expected.values.items():
                assert torch.allclose(after.values[name], value, atol=1e-12)
            if not before.memory:
                moved = torch.cat([(after.values[n] - before.values[n]).flatten(1) for n in own], dim=1).norm(dim=1)
                assert torch.allclose(moved, torch.full_like(moved, lr * 1e-3), rtol=1e-2)


def test_a_critic_learns_and_its_error_falls_while_one_at_rate_zero_stays() -> None:
    tasks, keys = GRIDS.sample({}, 4, Key.of(1)).tasks, Key.of(2).split(4)
    tasks = tasks._replace(lifetime=())

    def error(learner: Lpg) -> float:
        learner = learner.but(workers=16, segment=10, lr=0.0)
        theta = learner.init(GRIDS.spec, Key.of(0))
        state = learner.begin(theta, tasks, keys)
        with torch.no_grad():
            for k in range(30):
                state = learner.step(theta, state, tasks, clock([k] * 4, [30] * 4), keys.fold("step", k))
            happened, _ = learner.act(state, tasks, keys.fold("last"))
            return float(learner._advantages(state.critic, happened).square().mean())

    assert error(TABLES) < 0.8 * error(TABLES.but(critic_lr=0.0))


def test_lives_of_a_population_are_as_they_are_one_by_one_and_end_at_their_own_times() -> None:
    learner, tasks, keys = TABLES, GRIDS.sample({}, 5, Key.of(1)).tasks, Key.of(2).split(5)
    rules = [learner.init(GRIDS.spec, Key.of(i)) for i in range(5)]
    assert len(set(tasks.lifetime.tolist())) > 1
    with torch.no_grad():
        one = [to_rows(learner.live(rule, tasks, keys)[0]) for rule in rules]
        together = torch.func.vmap(lambda rule: to_rows(learner.outcomes(rule, tasks, keys)))(tree.stack(rules))
    for mine, theirs in zip(tree.leaves(together), tree.leaves(tree.stack(one)), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)


def test_the_meta_gradient_passes_through_every_update_and_its_clipping() -> None:
    with default_dtype(torch.float64):
        learner = TABLES.but(segment=6, workers=3, lr=4.0, window=3, heads=Heads(clip=0.05))
        family = GRIDS.but(lifetimes=(3, 3))
        tasks, keys = family.sample({}, 4, Key.of(1)).tasks, Key.of(2).split(4)
        theta = learner.init(family.spec, Key.of(0))
        theta["gru.input.weight"][:, 2:5] = 0.0  # where the rule reads no pi and y, nothing is cut and it is exact
        theta = {name: value.requires_grad_() for name, value in theta.items()}

        def loss(theta: dict[str, Tensor]) -> Tensor:
            return learner.live(theta, tasks, keys)[0].loss.mean()

        slopes = torch.autograd.grad(loss(theta), tuple(theta.values()))
        size = 0.0
        for (name, value), slope in zip(theta.items(), slopes, strict=True):
            direction = 1e-6 * Key.of(7).fold(name).normal(*slope.shape)
            with torch.no_grad():
                up, down = (loss({**theta, name: value + sign * direction}) for sign in (1.0, -1.0))
            expected = float((slope * direction).sum())
            assert float(up - down) / 2 == pytest.approx(expected, rel=1e-3, abs=1e-13)
            size += abs(expected)
        assert size > 1e-9


def test_both_meta_optimizers_train_the_same_learner_and_lives_that_end_are_redrawn() -> None:
    truncated = TruncatedGradient(window=2, measure="end", lr=1e-3)
    experiment = Experiment(tasks=GRIDS, learner=TABLES, meta_optimizer=truncated, task_batch=4, steps=3)
    progress, ages = experiment.begin(), []
    for _ in range(3):
        progress = experiment.advance(progress)
        ages.append(progress.meta["carry"].clock.step.tolist())
    assert any(len(set(age)) > 1 for age in ages)  # lives end one by one
    pairs = EvolutionStrategy(population=8, task_per_pair=True, shaping="pair_rank")
    result = Experiment(
        tasks=GRIDS, learner=TABLES.but(critic=False), meta_optimizer=pairs, task_batch=4, steps=1
    ).run()
    assert all(bool(torch.isfinite(value).all()) for value in result.theta.values())


@pytest.mark.slow
def test_compiled_acting_is_the_same() -> None:
    tasks, keys = GRIDS.sample({}, 2, Key.of(1)).tasks, Key.of(2).split(2)
    found = []
    for learner in (TABLES, TABLES.but(compile_acting=True)):
        state = learner.begin({}, tasks, keys)
        found.append(learner.act(state, tasks, keys))
    for plain, compiled in zip(*map(tree.leaves, found), strict=True):
        assert torch.equal(plain, compiled)


def test_lifetimes_are_log_uniform_between_their_ends() -> None:
    lifetime = GRIDS.but(lifetimes=(10, 250)).sample({}, 4000, Key.of(0)).tasks.lifetime
    assert (int(lifetime.min()), int(lifetime.max())) == (10, 250)
    assert abs(float((lifetime < 50).double().mean()) - 0.5) < 0.03
    with pytest.raises(UserError, match="lifetimes: 9 is above 3"):
        GRIDS.but(lifetimes=(9, 3))
