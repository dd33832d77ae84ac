"""What the paper claims, as measurements."""

from __future__ import annotations

from metaloop.claims import Claim, Greater, Within

from metaloop_groove import measures

SMALL = (
    "small grids (4 to 6 cells a side), 48 lives of 50 updates of 16 workers, 40 meta-steps (full: 60); the "
    "paper's are larger and longer"
)
GROUP = "rules"

CLAIMS = (
    Claim(
        "C1a",
        f"on held-out levels the meta-trained rule's return is at least 0.6 of A2C's (0: random agent); {SMALL}",
        "Section 5.1, Fig. 4",
        "near or above A2C on most levels",
        measures.works,
        Greater(than=0.6),
        minutes=2.5,
        full_seeds=12,
        group=GROUP,
    ),
    Claim(
        "C1b",
        "and at least 0.3 above that of the rule before meta-training",
        "Section 5.1",
        "a rule is learned",
        measures.learned,
        Greater(margin=0.3),
        minutes=0.2,
        full_seeds=12,
        group=GROUP,
    ),
    Claim(
        "C2a",
        "over the lower half of each rule's own ranking of held-out levels GROOVE's mean is above that of LPG trained "
        "on uniform levels for as many meta-steps",
        "Section 5.1, Fig. 4",
        "LPG has 187% more levels below 75% of A2C",
        measures.beside_uniform("lower half"),
        Greater(margin=0.0),
        minutes=2.5,
        full_seeds=12,
        group=GROUP,
    ),
    Claim(
        "C2b",
        "over the upper half they are within 0.05 of A2C's return of each other",
        "Section 5.1, Fig. 4",
        "comparable",
        measures.beside_uniform("upper half"),
        Within(-0.05, 0.05),
        minutes=0.2,
        full_seeds=12,
        group=GROUP,
    ),
    Claim(
        "C3",
        "a fresh rule trained on the 16 levels of highest algorithmic regret in a pool of 256 reaches more, on larger "
        "grids (6 to 8 cells a side), than one trained on 16 random ones",
        "Section 5.2, Fig. 5",
        "MinAtar, 16 levels: 0.53 beside 0.26",
        measures.informative,
        Greater(margin=0.0),
        minutes=2.0,
        note="Regret is that of the rule meta-trained on uniform levels with the same seed.",
        full_seeds=12,
        group=GROUP,
    ),
    Claim(
        "C4",
        "among the tenth of 256 levels with the highest regret, A2C reaches a larger share of the optimal return where "
        "regret is against A2C than where it is against the optimal policy, which picks levels that no learner solves",
        "Section 5.3",
        "algorithmic regret above optimal-policy regret on all MinAtar games",
        measures.solvable,
        Greater(margin=0.0),
        minutes=1.0,
        full_seeds=12,
        group=GROUP,
    ),
)
