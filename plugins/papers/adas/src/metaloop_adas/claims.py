"""What the paper claims, as measurements: all with a simulated solver."""

from __future__ import annotations

from metaloop.claims import Claim, Greater

from metaloop_adas import measures

WITH = "(simulated solver, grid puzzles, at most 12 calls for a question)"
SELECTION = "16 generations (full: 30). Chosen on 40 validation tasks, asked three times, told on 200 test tasks."

CLAIMS = (
    Claim(
        "C1a",
        "the found agent's test accuracy is more than 3 points above that of the best hand-designed agent, which may "
        f"be scaled to the same budget {WITH}",
        "Table 1; section 4.1",
        "ARC 13.7 beside 8.0 (10.7 if chosen on validation)",
        measures.discovered,
        Greater(margin=0.03),
        minutes=2.5,
        note=SELECTION,
        group="grid",
    ),
    Claim(
        "C1b",
        "and so it is on average over three other settings of the simulated solver: weaker, stronger, differently "
        "biased; each with searches of its own",
        "Table 1",
        "above in all domains",
        measures.discovered_elsewhere,
        Greater(margin=0.03),
        minutes=3.0,
        note=SELECTION,
        group="other solvers",
    ),
    Claim(
        "C2a",
        f"what is best on validation after all generations is better on the test than what was after 5 {WITH}",
        "Figure 3",
        "rises",
        measures.progressed,
        Greater(),
        minutes=0.2,
        note="On validation itself the best so far can't fall.",
        group="grid",
    ),
    Claim(
        "C2b",
        f"the search is better on the test than random agents of the same grammar at equal evaluations {WITH}",
        "section 4 (not measured there)",
        "qualitative",
        measures.beside("none"),
        Greater(),
        minutes=1.0,
        group="grid",
    ),
    Claim(
        "C2c",
        f"and than variations of the hand-designed agents alone, without the archive's new entries {WITH}",
        "section 4 (not measured there)",
        "qualitative",
        measures.beside("seeds"),
        Greater(),
        minutes=1.0,
        group="grid",
    ),
    Claim(
        "C2d",
        f"and than genetic programming by DEAP over the same grammar {WITH}",
        "none",
        "none",
        measures.beside_gp,
        Greater(),
        minutes=1.0,
        note="DEAP's first population has the same hand-designed agents; tournaments of 3, rates of 0.5.",
        group="grid",
    ),
    Claim(
        "C3a",
        "the agent found on grids, unchanged, gains at least half as much on list functions, over the best "
        "hand-designed agent there (simulated solver)",
        "Table 3",
        "MGSM to GSM8K: +25.9 points",
        measures.transferred_near,
        Greater(),
        minutes=0.5,
        group="grid",
    ),
    Claim(
        "C3b",
        "and is better than the best hand-designed agent in arithmetic (simulated solver)",
        "Table 4",
        "MMLU 67.0 beside 65.9, GPQA 29.9 beside 31.6",
        measures.transferred_far,
        Greater(),
        minutes=0.5,
        note="There are no examples to try solutions on.",
        group="grid",
    ),
    Claim(
        "C4",
        "with three other settings of the simulated solver, the agent found with the usual one is better on the test "
        "than the best hand-designed agent there in more than half of the three",
        "Table 2",
        "above with Claude and GPT-4",
        measures.across_models,
        Greater(than=1.5),
        minutes=0.7,
        group="grid",
    ),
    Claim(
        "C5",
        "the archive's best test accuracy, which the paper reports, is more than a point above the test accuracy of "
        f"the agent chosen on validation {WITH}",
        "Table 1 beside the published logs",
        "ARC 13.7 beside 10.7, DROP 79.4 beside 70.7",
        measures.optimism,
        Greater(margin=0.01),
        minutes=1.5,
        note="It can't be below 0; what is measured is how large it is.",
        group="grid",
    ),
)
