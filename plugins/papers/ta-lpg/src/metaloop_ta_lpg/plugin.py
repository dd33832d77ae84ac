"""What the plugin offers."""

from metaloop.manifest import Job, Paper, Part, Plugin

_HERE = "metaloop_ta_lpg"


def _cut(stage: str, **fields: object) -> tuple[tuple[str, object], ...]:
    return tuple((f"stages.{stage}.{name.replace('__', '.')}", value) for name, value in fields.items())


def _rule(stage: str, **fields: object) -> tuple[tuple[str, object], ...]:
    """One step on short lives of few environments."""
    small = {"steps": 1, "task_batch": 2, "tasks__lifetimes": [1, 2], "learner__workers": 2, "learner__episodes": 2}
    return _cut(stage, **small, learner__segment=4, tasks__env__max_steps=20, tasks__env__min_steps=20, **fields)


def _drift(stage: str) -> tuple[tuple[str, object], ...]:
    small = {"steps": 1, "task_batch": 2, "learner__steps": 2, "learner__copies": 2, "learner__horizon": 8}
    return _cut(stage, **small, meta_optimizer__population=4)


SPEC = Plugin(
    name="ta-lpg",
    summary="learned objectives that know the time of a life: TA-LPG and TA-LPO, by evolution and by meta-gradients",
    paper=Paper(
        title="Discovering Temporally-Aware Reinforcement Learning Algorithms",
        authors="Jackson, Lu, Kirsch, Lange, Whiteson, Foerster",
        year=2024,
        venue="ICLR",
        identifier="arXiv:2402.05828",
        family="meta-reinforcement learning",
    ),
    components=(
        Part("ta-lpg/lpo", "learner", f"{_HERE}.lpo:Lpo", "PPO's loop with a learned drift"),
        Part("ta-lpg/drift", "part", f"{_HERE}.drift:DriftObjective", "the drift's network, with or without the time"),
        Part("ta-lpg/schedules", "stage", f"{_HERE}.stages:Schedules", "what rules do with the time of a life"),
        Part("ta-lpg/drifts", "stage", f"{_HERE}.stages:Drifts", "drifts over the ratio, trainings beside PPO's"),
    ),
    jobs=(
        Job(
            "ta-lpg",
            f"{_HERE}.jobs:schedules",
            "LPG and TA-LPG evolved, TA-LPG by meta-gradients: their schedules over a life",
            dry=(
                *_rule("ta-lpg", meta_optimizer__population=4),
                *_rule("lpg", meta_optimizer__population=4),
                *_rule("ta-lpg-gradient"),
                ("stages.schedules.lifetimes", [1, 2]),
                ("stages.schedules.n", 2),
            ),
        ),
        Job(
            "ta-lpg/lpo",
            f"{_HERE}.jobs:lpo",
            "drifts evolved from PPO's clipping, with and without the time",
            dry=(*_drift("ta-lpo"), *_drift("lpo"), ("stages.drifts.n", 2)),
        ),
    ),
    claims=f"{_HERE}.claims:CLAIMS",
)
