"""Policies judged by whole episodes: the same alone, in a batch and in a population, in tensors and in Gymnasium."""

from __future__ import annotations

from collections.abc import Callable

import gymnasium
import pytest
import torch
from metaloop import Experiment, Incompatible, Key, Options, testing, tree
from metaloop.engine import Engine
from metaloop.objective import TaskObjective
from metaloop.specs import SupervisedSpec
from metaloop_basics.meta_optimizers.evolution import EvolutionStrategy
from metaloop_basics.models import ConvNet, Mlp
from metaloop_rl.atari import AtariNet
from metaloop_rl.envs.cartpole import CartPole
from metaloop_rl.envs.env import Range
from metaloop_rl.learners.episodic import Episodic, EpisodicGym
from metaloop_rl.tasks import Environments, GymTasks
from torch import nn

POLES = Environments(env=CartPole(max_steps=60), vary=(Range.example(),))
SMALL = Mlp(widths=(5,), activation="tanh")


@testing.parametrize(
    Episodic.example(),
    Episodic(model=SMALL, episodes=2, max_steps=20, temperature=0.5, initialisation="fan_in"),
    tasks=POLES,
)
def test_tensor_environments(check: Callable[[], None]) -> None:
    check()


@testing.parametrize(
    EpisodicGym.example(), EpisodicGym(model=SMALL, episodes=2, temperature=1.0, max_steps=20), tasks=GymTasks()
)
def test_gymnasium(check: Callable[[], None]) -> None:
    check()


@testing.parametrize(AtariNet(size="large"))
def test_networks(check: Callable[[], None]) -> None:
    check()


@pytest.mark.parametrize("learner", [Episodic(episodes=2), Episodic(model=SMALL, temperature=1.0, behaviour="final")])
def test_a_population_is_its_candidates_one_by_one(learner: Episodic) -> None:
    objective: TaskObjective[dict[str, torch.Tensor]] = TaskObjective(Engine(learner), POLES, {}, 3, Key.of(0))
    thetas = [objective.init(Key.of(seed)) for seed in range(4)]
    together = objective.many(tree.stack(thetas))
    for i, theta in enumerate(thetas):
        alone = objective(theta)
        assert together.metrics["length"][i].tolist() == alone.metrics["length"].tolist()
        torch.testing.assert_close(together.fitness[i], alone.fitness)
    own = objective.many(tree.stack(thetas[:3]), each=True)
    assert own.fitness.tolist() == together.fitness.diagonal().tolist()
    assert objective.many(tree.stack(thetas), chunk=2).fitness.tolist() == together.fitness.tolist()


def test_a_return_is_that_of_gymnasiums_environment_under_the_same_actions() -> None:
    learner, tasks = EpisodicGym(model=SMALL, max_steps=200), GymTasks()
    theta, key = learner.init(tasks.spec, Key.of(3)), Key.of(4)
    found = learner.evaluate_one(theta, (), tasks.sample({}, 1, Key.of(0)).tasks[0], key)
    env = gymnasium.make("CartPole-v1")
    start = key.fold("episode", 0).fold("reset").fold(0).seed()
    seen, total, over = env.reset(seed=start)[0], 0.0, False
    while not over and total < 200:
        outputs = learner.model.outputs(theta, torch.as_tensor(seen)[None, None])
        seen, reward, terminated, truncated, _ = env.step(int(outputs.argmax()))
        total, over = total + float(reward), terminated or truncated
    assert float(found.fitness) == total == float(found.metrics["length"])


def test_a_pole_is_balanced_by_an_evolution_strategy() -> None:
    experiment = Experiment(
        tasks=Environments(env=CartPole(max_steps=200)),
        learner=Episodic(model=SMALL),
        meta_optimizer=EvolutionStrategy(population=32, sigma=0.3, lr=0.2),
        steps=15,
        task_batch=1,
    )
    progress = experiment.begin()
    before = float(experiment.evaluate(progress.theta, n=20).fitness.mean())
    for _ in range(15):
        progress = experiment.advance(progress)
    assert float(experiment.evaluate(progress.theta, n=20).fitness.mean()) > 3 * before


def test_sampled_actions_follow_the_softmax() -> None:
    outputs = torch.tensor([0.0, 1.0]).expand(20_000, 2)
    drawn = Episodic(temperature=0.5).actions(outputs, discrete=True, key=Key.of(0).split(20_000))
    assert drawn.float().mean().item() == pytest.approx(torch.tensor([0.0, 2.0]).softmax(-1)[1].item(), abs=0.01)
    widths = Episodic(temperature=0.5).actions(outputs, discrete=False, key=Key.of(0).split(20_000)) - outputs
    assert widths.std().item() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("size", ["small", "large"])
def test_atari_networks_are_their_modules_and_have_the_papers_size(size: str) -> None:
    model = AtariNet(size=size)
    inputs = (4, 84, 84)
    theta = model.init(inputs, 18, Key.of(0))
    frames = Key.of(1).randint(0, 256, 2, *inputs).float()
    module = model.network(inputs, 18)
    for name, parameter in module.named_parameters():
        parameter.data = theta[name]
    torch.testing.assert_close(model.outputs(theta, frames[None])[0], module(frames / 255), rtol=1e-4, atol=1e-5)
    count = sum(value.numel() for value in theta.values())
    assert count == {"small": 1_008_450, "large": 4_052_658}[size]


def test_first_weights_have_the_fan_ins_scale() -> None:
    learner = EpisodicGym(model=AtariNet(), initialisation="fan_in")
    spec = GymTasks().spec.model_copy(update={"observation": (4, 84, 84), "actions": 18})
    theta = learner.init(spec, Key.of(0))
    assert theta["hidden.weight"].std().item() == pytest.approx(3872**-0.5, rel=0.01)
    assert theta["head.weight"].std().item() == pytest.approx(0.1 * 256**-0.5, rel=0.1)
    assert not any(value.any() for name, value in theta.items() if name.endswith("bias"))
    assert {name: value.shape for name, value in theta.items()} == {
        name: value.shape for name, value in learner.but(initialisation="torch").init(spec, Key.of(0)).items()
    }


@pytest.mark.parametrize(
    ("learner", "reason"),
    [
        (Episodic(), "acts in environments"),
        (EpisodicGym(model=AtariNet()), "stacked frames"),
        (EpisodicGym(model=ConvNet()), "needs images"),
    ],
)
def test_what_does_not_fit_is_refused(learner: Episodic | EpisodicGym, reason: str) -> None:
    supervised = SupervisedSpec(inputs=(1,), outputs=1, shots=1, queries=1)
    with pytest.raises(Incompatible, match=reason):
        learner.check(supervised if isinstance(learner, Episodic) else GymTasks(options=Options()).spec)
    assert isinstance(learner.model.network((4, 84, 84), 2), nn.Module)
