"""TOPO: a search over orders by swapping pairs that the gradients of h and Q propose (Deng et al. 2023)."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Self

import torch
from metaloop import Incompatible, Key, Outcome, Spec, tree
from metaloop.learner import AnyLearner
from metaloop.outcome import Clock
from pydantic import Field
from torch import Tensor

from metaloop_notears_topo.finder import Finder, FindsGraph, judged, thresholded
from metaloop_notears_topo.graphs import arranged, distance, topological, walks
from metaloop_notears_topo.model import LeastSquares, Model
from metaloop_notears_topo.sem import DataSet, GraphSpec
from metaloop_notears_topo.swaps import How, Rule, Swaps, apply, disjoint, first_improving, ranked


class Search(NamedTuple):
    """Searches in progress, one row per task."""

    order: Tensor
    """`[task, place]` int64: which node is where."""
    fit: Any
    """The model's fit to it."""
    score: Tensor
    """`[task]`: Q."""
    start: Tensor
    """`[task, node, node]`: the weights that gave the first order; NaN where it was drawn."""
    reference: Tensor
    """`[task]`: Q of the true order; NaN where it is not known."""
    trace: Tensor
    """`[task, round]`: Q before the first round and after each; NaN beyond the last."""
    rounds: Tensor
    """`[task]` int64."""
    scored: Tensor
    """`[task]` int64: swaps whose score was computed."""
    large: Tensor
    """`[task]` int64: how often the large set has helped."""
    done: Tensor
    """`[task]` bool: neither set improves any more."""


class Topo(Finder):
    """One step is one round: score the small set of candidate swaps, make the best that don't overlap.

    Where none improves the score, the large set is tried (as long as it has helped fewer than `large_searches` times);
    where that does not either, the search has ended and stays as it is. All tasks and candidates of a round are one
    batch.
    """

    steps: int = Field(default=100, ge=0, description="rounds at most")
    model: Model = Field(default=LeastSquares(), description="the inner problem")
    start: AnyLearner | None = Field(default=None, description="whose graph gives the first order; None: a random one")
    rule: Rule = Field(default="kkt", description="how candidates are ranked: kkt (paper), code, random")
    small: int = Field(default=100, ge=1, description="pairs in the small set")
    large: int = Field(default=400, ge=1, description="pairs in the large set, the small ones included")
    large_searches: int = Field(default=1, ge=0, description="how often the large set may help")
    xi: float = Field(default=0.0, ge=0, description="rule kkt: least |[grad Q]_ij| of a candidate")
    update: Literal["greedy", "first"] = Field(
        default="greedy", description="greedy: all best disjoint swaps of a round; first: the first that improves"
    )
    swap: How = Field(default="exchange", description="exchange i and j; move j after i; or i before j")

    @classmethod
    def example(cls) -> Self:
        """Few rounds of few swaps."""
        return cls(steps=3, small=3, large=6)

    def check(self, spec: Spec) -> None:
        """Accept what the model and the learner that begins accept.

        Raises:
            Incompatible: with the reason.
        """
        super().check(spec)
        assert isinstance(spec, GraphSpec)
        self.model.check(spec)
        if self.start is not None:
            if not isinstance(self.start, FindsGraph) or self.start.theta_kind != "none":
                raise Incompatible(f"start: {type(self.start).__name__} finds no graph by itself")
            self.start.check(spec)

    def begin(self, theta: Any, tasks: DataSet, keys: Key) -> Search:
        """The first order and its fit, and the true order's score."""
        n, _, d = tasks.x.shape
        start = torch.full((n, d, d), torch.nan, dtype=torch.float64, device=tasks.x.device)
        order = keys.fold("order").permutation(d)
        if self.start is not None:
            assert isinstance(self.start, FindsGraph)
            _, state = self.start.live({}, tasks, keys.fold("start"))
            start = self.start.graph(state).double()
            order = topological(start)
        fit = self.model.begin(tasks.x, order, keys.fold("fit"))
        score = self.model.score(fit, order)
        count = torch.zeros(n, dtype=torch.int64, device=order.device)
        trace = torch.full((n, self.steps + 1), torch.nan, dtype=score.dtype, device=score.device)
        trace[:, 0] = score
        reference = self._reference(tasks, keys.fold("fit"))
        return Search(order, fit, score, start, reference, trace, count, count, count, count > 0)

    def _reference(self, tasks: DataSet, keys: Key) -> Tensor:
        known = ~tasks.weights.flatten(1).isnan().any(1)
        score = torch.full((len(known),), torch.nan, dtype=torch.float64, device=tasks.x.device)
        if bool(known.any()):
            order = topological(tasks.weights[known])
            score[known] = self.model.score(self.model.begin(tasks.x[known], order, keys[known]), order)
        return score

    def step(self, theta: Any, state: Search, tasks: DataSet, clock: Clock, keys: Key) -> Search:
        """One round of all searches that have not ended."""
        alive = (~state.done & (state.rounds < self.steps)).nonzero().squeeze(1)
        if len(alive) == 0:
            return state
        now, x = tree.index(state, alive), tasks.x[alive]
        small, rest = ranked(
            walks(arranged(self.model.weights(now.fit, now.order).double(), now.order)),
            arranged(self.model.slope(x, now.fit, now.order), now.order).mT,
            self.rule,
            self.small,
            self.large,
            self.xi,
            keys[alive],
        )
        now, improved = self._improve(x, now, small)
        stuck = (~improved & (now.large < self.large_searches)).nonzero().squeeze(1)
        if len(stuck):
            other, helped = self._improve(x[stuck], tree.index(now, stuck), tree.index(rest, stuck))
            now = tree.put(now, stuck, other._replace(large=other.large + helped))
            improved = improved.index_copy(0, stuck, helped)
        rounds = now.rounds + 1
        trace = now.trace.scatter(1, rounds[:, None], now.score[:, None])
        return tree.put(state, alive, now._replace(rounds=rounds, trace=trace, done=~improved))

    def _improve(self, x: Tensor, now: Search, swaps: Swaps) -> tuple[Search, Tensor]:
        """Make what improves of a set of swaps; whether anything did, `[task]`."""
        gain, trial = self.model.trial(x, now.fit, now.order, swaps, self.swap)
        choose = disjoint if self.update == "greedy" else first_improving
        chosen = choose(gain, swaps, self.model.least * now.score.abs())
        order = apply(now.order, swaps, chosen, self.swap)
        fit = self.model.accept(now.fit, trial, chosen)
        improved = chosen.any(1)
        score = torch.where(improved, self.model.score(fit, order), now.score)
        scored = now.scored + swaps.valid.sum(1)
        return now._replace(order=order, fit=fit, score=score, scored=scored), improved

    def evaluate(self, theta: Any, state: Search, tasks: DataSet, keys: Key) -> Outcome:
        """Q, how far the graph is from the true one, and the same of the graph that the search began with."""
        more = {
            "rounds": state.rounds,
            "scored": state.scored,
            "start_score": state.trace[:, 0],
            "start_shd": distance(state.start, tasks.weights).shd,
        }
        out = judged(state.score, self.graph(state), tasks, state.reference, more)
        return out._replace(done=state.done)

    def graph(self, state: Search) -> Tensor:
        """The weights at the present order, without those below the threshold."""
        return thresholded(self.model.weights(state.fit, state.order), self.threshold)
