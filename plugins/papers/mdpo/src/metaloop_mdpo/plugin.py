"""What the plugin offers."""

from metaloop.manifest import Job, Paper, Part, Plugin

_HERE = "metaloop_mdpo"


def _cut(stage: str, **fields: int) -> tuple[tuple[str, object], ...]:
    """Overrides of a stage's learner."""
    return tuple((f"stages.{stage}.learner.{name}", value) for name, value in fields.items())


_ONE_ITERATION = (
    *_cut("mdpo", steps=1, batch=64, copies=2, value_batch=32),
    ("stages.mdpo.task_batch", 2),
)
SPEC = Plugin(
    name="mdpo",
    summary="policy optimisation as mirror descent: on-policy beside TRPO and PPO, off-policy beside SAC",
    paper=Paper(
        title="Mirror Descent Policy Optimization",
        authors="Tomar, Shani, Efroni, Ghavamzadeh",
        year=2022,
        venue="ICLR",
        identifier="arXiv:2005.09814",
        family="reinforcement learning",
    ),
    components=(
        Part("mdpo/on-policy", "learner", f"{_HERE}.on_policy:OnPolicy", "on-policy MDPO in tensor environments"),
        Part("mdpo/on-policy-gym", "learner", f"{_HERE}.on_policy:OnPolicyGym", "the same in Gymnasium's"),
        Part("mdpo/off-policy", "learner", f"{_HERE}.off_policy:OffPolicy", "off-policy MDPO in tensor environments"),
        Part("mdpo/off-policy-gym", "learner", f"{_HERE}.off_policy:OffPolicyGym", "the same in Gymnasium's"),
        Part("mdpo/beside-peers", "stage", f"{_HERE}.stages:BesidePeers", "learning curves beside peers'"),
        Part("mdpo/peer", "part", f"{_HERE}.baselines:Peer", "PPO, TRPO or SAC of stable-baselines3"),
    ),
    jobs=(
        Job("mdpo", f"{_HERE}.jobs:on_policy", "on-policy MDPO beside TRPO and PPO", dry=_ONE_ITERATION),
        Job("mdpo/minimal", f"{_HERE}.jobs:minimal", "the three without what their codes add", dry=_ONE_ITERATION),
        Job(
            "mdpo/off-policy",
            f"{_HERE}.jobs:off_policy",
            "off-policy MDPO, with KL and a Tsallis divergence, beside SAC",
            dry=(
                *_cut("mdpo-kl", steps=1, sgd_steps=4, warmup=30, capacity=100, rows=8),
                *_cut("mdpo-tsallis", steps=1, sgd_steps=4, warmup=30, capacity=100, rows=8),
                ("stages.mdpo-kl.task_batch", 2),
                ("stages.mdpo-tsallis.task_batch", 2),
            ),
        ),
    ),
    claims=f"{_HERE}.claims:CLAIMS",
)
