"""What the plugin offers."""

from metaloop.manifest import Paper, Part, Plugin

_HERE = "metaloop_mdpo"

SPEC = Plugin(
    name="mdpo",
    summary="policy optimisation as mirror descent: on-policy beside TRPO and PPO, off-policy beside SAC",
    paper=Paper(
        title="Mirror Descent Policy Optimization",
        authors="Tomar, Shani, Efroni, Ghavamzadeh",
        year=2022,
        venue="ICLR",
        identifier="arXiv:2005.09814",
    ),
    components=(
        Part("mdpo/on-policy", "learner", f"{_HERE}.on_policy:OnPolicy", "on-policy MDPO in tensor environments"),
        Part("mdpo/on-policy-gym", "learner", f"{_HERE}.on_policy:OnPolicyGym", "the same in Gymnasium's"),
        Part("mdpo/off-policy", "learner", f"{_HERE}.off_policy:OffPolicy", "off-policy MDPO in tensor environments"),
        Part("mdpo/off-policy-gym", "learner", f"{_HERE}.off_policy:OffPolicyGym", "the same in Gymnasium's"),
        Part("mdpo/peer", "part", f"{_HERE}.baselines:Peer", "PPO, TRPO or SAC of stable-baselines3"),
    ),
)
