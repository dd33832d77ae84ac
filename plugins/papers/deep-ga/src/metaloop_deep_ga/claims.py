"""What the paper claims, as measurements."""

from __future__ import annotations

from metaloop.claims import Claim, Greater, Identity, Less, Rate

from metaloop_deep_ga import measures

MAZE = "hard maze with rangefinders (the paper's has pixels), a tanh network of 16 and 16 units"
EQUAL = "Population 256, at most 50 generations (full: 80); the paper's maze has 20 000 individuals."

CLAIMS = (
    Claim(
        "C1a",
        f"selected by novelty, individuals reach the goal of the {MAZE}, in more than half of all searches",
        "Fig. 4; abstract",
        "solves the maze",
        measures.maze_solved("novelty"),
        Rate(at_least=0.5),
        seeds=6,
        minutes=2.5,
        note=EQUAL,
        group="maze, novelty",
    ),
    Claim(
        "C1b",
        "selected by fitness, the distance to the goal, they don't in more than half: the straight way is a dead end",
        "Fig. 4; abstract",
        "fails",
        measures.maze_solved("fitness"),
        Rate(at_most=0.5),
        seeds=6,
        minutes=2.5,
        group="maze, fitness",
    ),
    Claim(
        "C1c",
        "nor does random search",
        "Fig. 4",
        "fails",
        measures.maze_solved("random"),
        Rate(at_most=0.5),
        seeds=6,
        minutes=2.5,
        group="maze, random",
    ),
    Claim(
        "C2",
        "nor an evolution strategy at as many evaluations: no theta that it passes through reaches the goal",
        "Fig. 4",
        "fails",
        measures.maze_solved("evolution strategy"),
        Rate(at_most=0.5),
        seeds=6,
        minutes=2.5,
        note="basics/es (OpenAI-ES): centred ranks, rate 0.1, sigma 0.1; on seed 0 sigma 0.2 ends in the same place.",
        group="maze, evolution strategy",
    ),
    Claim(
        "C3",
        "the GA's return is above random search's at equal evaluations (means over 200 test episodes of Pendulum)",
        "Table 1: on 13 of 13 Atari games",
        "above",
        measures.beside_random_search,
        Greater(margin=0.0),
        minutes=0.5,
        note="Population 64, 25 generations of 4 episodes each.",
        group="control",
    ),
    Claim(
        "C4",
        "and is at most a tenth worse than an evolution strategy's at equal evaluations (costs: minus returns)",
        "Table 1: above ES on 7 of 13 games",
        "competitive",
        measures.beside_evolution_strategy,
        Less(1.1, ratio=True),
        minutes=0.5,
        note="basics/es (OpenAI-ES). The GA's sigma is the best of 0.05, 0.2 and 0.5 on seeds 0 and 1, the evolution "
        "strategy's sigma and rate the best of six pairs.",
        group="control",
    ),
    Claim(
        "C5a",
        "weights evolved in 20 generations come back from their seeds, through bytes, to the last bit: largest "
        "difference over theta and three parents",
        "Section 3.1",
        "0",
        measures.reconstruction_error,
        Identity(0.0),
        seeds=3,
        minutes=0.2,
    ),
    Claim(
        "C5b",
        "the large Atari network's 4 million weights have more than 10 000 times as many bytes as the seeds of an "
        "individual of generation 50",
        "Section 3.1; abstract",
        "up to 10 000-fold",
        measures.compressed,
        Greater(than=10_000.0),
        minutes=0.1,
    ),
    Claim(
        "C6",
        "where candidates for the elite are not judged again, its reported return exceeds that of 200 test episodes by "
        "more than where they are (CartPole of at most 200 steps, actions sampled)",
        "Section 3.1",
        "qualitative",
        measures.optimism,
        Greater(margin=0.0),
        minutes=0.5,
        group="optimism",
    ),
)
