"""What the reinforcement-learning toolkit offers."""

from metaloop.manifest import Part, Plugin

SPEC = Plugin(
    name="rl",
    summary="reinforcement learning: environments in tensors, Gymnasium's as tasks, policies, returns",
    components=(
        Part("rl/environments", "tasks", "metaloop_rl.tasks:Environments", "tensor environments that vary"),
        Part("rl/gym", "tasks", "metaloop_rl.tasks:GymTasks", "Gymnasium's environments, also varied"),
        Part("rl/range", "part", "metaloop_rl.envs.env:Range", "how a parameter varies"),
        Part("rl/cartpole", "part", "metaloop_rl.envs.cartpole:CartPole", "Gymnasium's CartPole-v1 in tensors"),
    ),
)
