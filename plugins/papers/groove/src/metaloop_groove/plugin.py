"""What the plugin offers."""

from metaloop.manifest import Paper, Part, Plugin

_HERE = "metaloop_groove"

SPEC = Plugin(
    name="groove",
    summary="GROOVE: learned update rules meta-trained on levels picked by algorithmic regret",
    paper=Paper(
        title="Discovering General Reinforcement Learning Algorithms with Adversarial Environment Design",
        authors="Jackson, Jiang, Parker-Holder, Vuorio, Lu, Farquhar, Whiteson, Foerster",
        year=2023,
        venue="NeurIPS",
        identifier="arXiv:2310.02782",
        family="meta-reinforcement learning",
    ),
    components=(
        Part("groove/level-buffer", "tasks", f"{_HERE}.buffer:LevelBuffer", "replays the levels that score highest"),
        Part("groove/handcrafted", "tasks", f"{_HERE}.levels:Handcrafted", "families made by hand in one grid"),
        Part("groove/a2c", "learner", f"{_HERE}.a2c:A2C", "advantage actor-critic on many levels at once"),
        Part("groove/algorithmic-regret", "part", f"{_HERE}.scores:AlgorithmicRegret", "against any other learner"),
        Part("groove/optimal-regret", "part", f"{_HERE}.scores:OptimalRegret", "against a grid's optimal policy"),
        Part("groove/reported", "part", f"{_HERE}.scores:Reported", "what the learner reports, as value losses"),
    ),
)
