"""What the reinforcement-learning toolkit offers."""

from metaloop.manifest import Part, Plugin

_ENVS = "metaloop_rl.envs"

SPEC = Plugin(
    name="rl",
    summary="reinforcement learning: environments in tensors, Gymnasium's as tasks, policies, returns",
    components=(
        Part("rl/environments", "tasks", "metaloop_rl.tasks:Environments", "tensor environments that vary"),
        Part("rl/gym", "tasks", "metaloop_rl.tasks:GymTasks", "Gymnasium's environments, also varied"),
        Part("rl/range", "part", f"{_ENVS}.env:Range", "how a parameter varies"),
        Part("rl/cartpole", "part", f"{_ENVS}.cartpole:CartPole", "Gymnasium's CartPole-v1 in tensors"),
        Part("rl/acrobot", "part", f"{_ENVS}.acrobot:Acrobot", "Gymnasium's Acrobot-v1 in tensors"),
        Part("rl/mountain-car", "part", f"{_ENVS}.mountain_car:MountainCar", "Gymnasium's MountainCar-v0 in tensors"),
        Part("rl/mountain-car-continuous", "part", f"{_ENVS}.mountain_car:MountainCarContinuous", "with a throttle"),
        Part("rl/pendulum", "part", f"{_ENVS}.pendulum:Pendulum", "Gymnasium's Pendulum-v1 in tensors"),
        Part("rl/bernoulli-bandit", "part", f"{_ENVS}.bandit:BernoulliBandit", "arms that pay 1 or nothing"),
        Part("rl/gaussian-bandit", "part", f"{_ENVS}.bandit:GaussianBandit", "arms with normal rewards"),
        Part(
            "rl/grid-world", "part", f"{_ENVS}.grid:GridWorld", "walls and objects to collect; every level is another"
        ),
        Part("rl/grid-object", "part", f"{_ENVS}.grid:GridObject", "what an object of a grid world may be like"),
        Part("rl/orthogonal-mlp", "part", "metaloop_rl.models:OrthogonalMlp", "an MLP with orthogonal first weights"),
        Part("rl/actor", "part", "metaloop_rl.policies:Actor", "an MLP to a categorical or a Gaussian"),
        Part("rl/squashed-actor", "part", "metaloop_rl.policies:SquashedActor", "an MLP to a tanh-squashed Gaussian"),
        Part("rl/episodic", "learner", "metaloop_rl.learners.episodic:Episodic", "a policy judged by whole episodes"),
        Part("rl/episodic-gym", "learner", "metaloop_rl.learners.episodic:EpisodicGym", "the same in Gymnasium"),
        Part("rl/lpg", "learner", "metaloop_rl.learners.lpg:Lpg", "an agent's life under a learned update rule"),
        Part(
            "rl/lpg-network", "part", "metaloop_rl.learners.lpg_network:LpgNetwork", "the rule: a GRU backwards in time"
        ),
        Part("rl/lpg-heads", "part", "metaloop_rl.learners.lpg_agent:Heads", "the agent: tables or small networks"),
        Part("rl/atari-net", "part", "metaloop_rl.atari:AtariNet", "deep Q-learning's networks for stacked frames"),
    ),
)
