"""What the paper claims, as measurements."""

from __future__ import annotations

from metaloop.claims import Claim, Greater, Identity, Less, Within

from metaloop_ta_lpg import measures

SCALE = (
    "grid worlds 'small', lives of 5 to 30 updates, 64 pairs, 20 generations (full: 100), GRU of 16 units; the "
    "paper: 512 pairs, 250 updates, 2500 generations, 256 units"
)

CLAIMS = (
    Claim(
        "C1",
        "a rule that is told the time does better: mean return of agents at the end of lives of 5, 15, 30 and (unseen) "
        f"60 updates on new levels, TA-LPG less LPG, both by evolution ({SCALE})",
        "abstract; grid worlds",
        "TA-LPG above LPG, in and out of distribution",
        measures.returns,
        Greater(0.0),
        seeds=3,
        full_seeds=5,
        minutes=4.0,
        group="rules",
        note="Returns are not divided by a baseline's: both rules meet the same levels.",
    ),
    Claim(
        "C2",
        "evolution finds a schedule and truncated meta-gradients do not: deviation of the size of updates over a life "
        "by its mean, on fixed experience, at least twice as large under evolution",
        "abstract; analysis of learned objectives",
        "meta-gradients fail to find adaptive objectives",
        measures.dynamicity,
        Greater(2.0, ratio=True),
        seeds=3,
        full_seeds=5,
        minutes=2.0,
        group="rules",
    ),
    Claim(
        "C3",
        "agents exploit towards the end: entropy at the end of life less that at a quarter of it is lower under TA-LPG "
        "than under LPG (lives of 5, 15 and 30 updates)",
        "analysis of learned objectives",
        "entropy is annealed over the life, whatever its length",
        measures.annealing,
        Less(0.0),
        seeds=3,
        full_seeds=5,
        minutes=0.1,
        group="rules",
    ),
    Claim(
        "C4",
        "antithetic task sampling: independent estimates of a generation's gradient agree better where pairs share a "
        "task and are ranked within it than with a task for each candidate and ranks over all (mean cosine of 3 "
        "estimates, full: 10, first theta)",
        "method, antithetic task sampling",
        "stabilised training, higher performance",
        measures.signal,
        Greater(0.0),
        seeds=5,
        full_seeds=5,
        minutes=1.0,
    ),
    Claim(
        "C5a",
        "TA-LPO beats LPO at the horizon that both were evolved for (mean return over a CartPole training of 8192 "
        "steps, 64 pairs, 5 generations; full: 20)",
        "LPO experiments",
        "TA-LPO above LPO",
        measures.drift_beside("lpo"),
        Greater(0.0),
        seeds=3,
        full_seeds=5,
        minutes=2.0,
        group="drifts",
        note="The paper's tasks are Brax and MinAtar; this is CartPole.",
    ),
    Claim(
        "C5b",
        "LPO, whose drift began as PPO's, beats PPO there",
        "LPO experiments",
        "LPO above PPO",
        measures.drift_beside("ppo"),
        Greater(0.0),
        seeds=3,
        full_seeds=5,
        minutes=0.2,
        group="drifts",
    ),
    Claim(
        "C5c",
        "TA-LPO's drift changes over the life: largest change between n/N = 0 and 1 over ratios in [0.5, 1.5], as a "
        "share of its largest value, above 10%",
        "analysis of learned objectives",
        "the clipping of ratios varies with time",
        measures.drift_over_time,
        Greater(than=0.1),
        seeds=3,
        full_seeds=5,
        minutes=0.1,
        group="drifts",
    ),
    Claim(
        "C6a",
        "with f = 0 the objective is PPO's clipped one: largest difference (the margin of the drift is 1e-4)",
        "LPO, PPO-initialised variant",
        "0",
        measures.identity,
        Identity(1.1e-4),
        seeds=3,
        full_seeds=5,
        minutes=0.1,
    ),
    Claim(
        "C6b",
        "the baseline is a PPO: mean return over a CartPole training within a quarter of stable-baselines3's at the "
        "same settings",
        "LPO experiments, baseline",
        "1",
        measures.beside_peer,
        Within(0.75, 1.33, ratio=True),
        minutes=0.7,
    ),
)
