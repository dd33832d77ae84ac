"""What the paper claims, as measurements."""

from __future__ import annotations

from metaloop.claims import Claim, Greater, Identity, Within

from metaloop_mdpo import measures

RETURN = "mean return of the last 20 training episodes"
BUDGET = "16 iterations of 2048 environment steps (full: 75), 8 copies"

CLAIMS = (
    Claim(
        "C1a",
        "at pi_k the gradient of Psi is the policy gradient, so m = 1 is the vanilla one (Gaussian and categorical "
        "policies, float64): largest relative deviation",
        "on-policy MDPO, first SGD step",
        "0",
        measures.policy_gradient,
        Identity(1e-6),
        minutes=0.1,
    ),
    Claim(
        "C1b",
        "with c = lambda the off-policy loss has the gradient of SAC's policy loss, whatever pi_k is (float64): "
        "largest relative deviation",
        "off-policy MDPO and SAC",
        "0",
        measures.sac_gradient,
        Identity(1e-6),
        minutes=0.1,
        note="SAC's loss with Q1 in place of the smaller Q, as the authors' code has it, written with torch's "
        "distributions.",
    ),
    Claim(
        "C1c",
        "tabular MDPO (t = 3, 20 random MDPs a seed) never makes a state worse: largest fall of a value",
        "mirror descent in MDPs",
        "0",
        measures.improvement,
        Identity(1e-10),
        minutes=0.1,
        group="tabular",
    ),
    Claim(
        "C1d",
        "and its gap falls at least as fast as 1 / sqrt(k): largest excess over gap_0 / sqrt(k + 1)",
        "mirror descent in MDPs (Shani et al. 2020)",
        "O(1 / sqrt(K))",
        measures.rate,
        Identity(0.0),
        minutes=0.1,
        group="tabular",
    ),
    Claim(
        "C1e",
        "and it ends at the optimal values: gap after 1000 iterations, of 1 / (1 - gamma)",
        "mirror descent in MDPs",
        "0",
        measures.optimum,
        Identity(1e-3),
        minutes=0.1,
        group="tabular",
    ),
    Claim(
        "C2a",
        f"m = 10 steps of SGD an iteration beat one ({RETURN}, Hopper-v5; {BUDGET})",
        "on-policy experiments, number of SGD steps",
        "m = 10 is best, m = 1 is worse",
        measures.exchanged("hopper", "mdpo", "one step"),
        Greater(0.0),
        full_seeds=8,
        minutes=1.0,
        group="hopper",
    ),
    Claim(
        "C2b",
        "the same on InvertedDoublePendulum-v5",
        "on-policy experiments, number of SGD steps",
        "m = 10 is best, m = 1 is worse",
        measures.exchanged("pendulum", "mdpo", "one step"),
        Greater(0.0),
        full_seeds=8,
        minutes=1.0,
        group="pendulum",
    ),
    Claim(
        "C3a",
        "without a line search MDPO is at most 10% below sb3-contrib's TRPO (both at their defaults, Hopper-v5)",
        "on-policy experiments, MDPO beside TRPO and PPO",
        "Hopper, minimal: MDPO 1964, TRPO 2382; on par or better on most tasks",
        measures.beside("hopper", "mdpo", "trpo"),
        Greater(0.9, ratio=True),
        full_seeds=8,
        minutes=1.0,
        group="hopper",
    ),
    Claim(
        "C3b",
        "its mean KL of an iteration is within a factor of 3 of TRPO's",
        "abstract",
        "trust regions need not be enforced",
        measures.kl_beside("hopper", "mdpo", "trpo"),
        Within(1 / 3, 3.0, ratio=True),
        full_seeds=8,
        minutes=0.1,
        group="hopper",
    ),
    Claim(
        "C3c",
        "both tuned, MDPO is at most 10% below TRPO",
        "on-policy experiments, MDPO beside TRPO and PPO",
        "as C3a",
        measures.beside("hopper", "tuned mdpo", "tuned trpo"),
        Greater(0.9, ratio=True),
        full_seeds=8,
        minutes=1.0,
        group="hopper",
    ),
    Claim(
        "C4a",
        "MDPO beats stable-baselines3's PPO (both at their defaults, Hopper-v5)",
        "on-policy experiments, MDPO beside TRPO and PPO",
        "better on every task",
        measures.beside("hopper", "mdpo", "ppo"),
        Greater(0.0),
        full_seeds=8,
        minutes=1.0,
        group="hopper",
    ),
    Claim(
        "C4b",
        "both tuned, MDPO beats PPO",
        "on-policy experiments, MDPO beside TRPO and PPO",
        "better on every task",
        measures.beside("hopper", "tuned mdpo", "tuned ppo"),
        Greater(0.0),
        full_seeds=8,
        minutes=1.0,
        group="hopper",
    ),
    Claim(
        "C5",
        "off-policy MDPO with KL is on par with SAC: at most 100 of about 1100 points that learning is worth below "
        f"stable-baselines3's ({RETURN}, Pendulum-v1, 4000 steps, full: 15 000; m = 250)",
        "off-policy experiments, MDPO beside SAC",
        "on par; above SAC on 5 of 6 tasks",
        measures.beside("swing-up", "off-policy mdpo", "sac"),
        Greater(-100.0),
        full_seeds=8,
        minutes=3.0,
        note="The same networks, buffer, warm-up, rows a step and learning rate (1e-3, both sides' after one "
        "look at seed 0). SAC tunes its entropy's weight by itself, as is its default. Random actions have a return of "
        "about -1250, a solved task one of about -150.",
        group="off-policy",
    ),
)
