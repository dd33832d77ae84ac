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
        Part("rl/orthogonal-mlp", "part", "metaloop_rl.models:OrthogonalMlp", "an MLP with orthogonal first weights"),
        Part("rl/actor", "part", "metaloop_rl.policies:Actor", "an MLP to a categorical or a Gaussian"),
        Part("rl/squashed-actor", "part", "metaloop_rl.policies:SquashedActor", "an MLP to a tanh-squashed Gaussian"),
        Part("rl/episodic", "learner", "metaloop_rl.learners.episodic:Episodic", "a policy judged by whole episodes"),
        Part("rl/episodic-gym", "learner", "metaloop_rl.learners.episodic:EpisodicGym", "the same in Gymnasium"),
        Part("rl/atari-net", "part", "metaloop_rl.atari:AtariNet", "deep Q-learning's networks for stacked frames"),
    ),
)
