"""Meta-training steps of the causal transformer, beside an equal `torch.nn.TransformerEncoder`.

The peer has the same width, layers, heads, causal mask, weights, batch, clipped gradient and Adam; it embeds, predicts
and takes its loss at every place of a sequence as users of torch write it. Both get the same tasks, drawn before.
"""

from __future__ import annotations

from typing import Any

import torch
from common import arguments, compare, report
from metaloop import Episode, Experiment, tree
from metaloop.engine import Engine
from metaloop.key import Key
from metaloop_basics.meta_optimizers.gradient import Gradient
from metaloop_gpicl.projection import RandomProjectionTasks
from metaloop_gpicl.transformer import InContextTransformer
from torch import Tensor, nn

SIZES = {
    "width 64, 2 layers, batch 32": (InContextTransformer(format="causal", positions="learned"), 32, 55),
    "width 128, 4 layers, batch 32": (
        InContextTransformer(format="causal", positions="learned", width=128, layers=4, heads=8, feedforward=512),
        32,
        99,
    ),
}


class Encoder(nn.Module):
    """The peer: torch's encoder between two linear layers."""

    def __init__(self, learner: InContextTransformer, size: int, ways: int, length: int) -> None:
        super().__init__()
        self.x, self.y = nn.Linear(size, learner.width), nn.Linear(ways, learner.width, bias=False)
        self.positions = nn.Embedding(length, learner.width)
        self.encoder = nn.TransformerEncoder(
            learner.block(), learner.layers, nn.LayerNorm(learner.width), enable_nested_tensor=False
        )
        self.head = nn.Linear(learner.width, ways)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(length))

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        """Logits `[task, place, ways]`."""
        tokens = self.x(x) + self.y(before) + self.positions.weight
        logits: Tensor = self.head(self.encoder(tokens, mask=self.mask, is_causal=True))
        return logits


class Peer:
    """A training step as users of torch write it."""

    def __init__(self, learner: InContextTransformer, theta: dict[str, Tensor], tasks: Episode, ways: int) -> None:
        x = torch.cat([tasks.support_x, tasks.query_x], 1)
        self.y = torch.cat([tasks.support_y, tasks.query_y], 1)
        self.x, self.ways = x, ways
        self.module = Encoder(learner, x.shape[-1], ways, x.shape[1]).train()
        names = {n: n.removeprefix("encoder.").replace("norm.", "norm.") for n, _ in self.module.named_parameters()}
        with torch.no_grad():
            for name, parameter in self.module.named_parameters():
                parameter.copy_(theta[names[name]])
        self.names = names
        self.optimizer = torch.optim.Adam(self.module.parameters(), lr=1e-3)

    def loss(self) -> Tensor:
        """The mean cross-entropy over all places."""
        shifted = nn.functional.one_hot(self.y, self.ways).to(self.x.dtype)
        before = torch.cat([torch.zeros_like(shifted[:, :1]), shifted[:, :-1]], 1)
        logits = self.module(self.x, before)
        return nn.functional.cross_entropy(logits.flatten(0, 1), self.y.flatten())

    def gradients(self) -> dict[str, Tensor]:
        """By our names."""
        self.optimizer.zero_grad()
        self.loss().backward()  # type: ignore[no-untyped-call]
        found: dict[str, Any] = {self.names[name]: value.grad for name, value in self.module.named_parameters()}
        return {name: value.clone() for name, value in found.items()}

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        self.loss().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimizer.step()


class Ours:
    """The core's gradient and the toolkit's Adam."""

    def __init__(self, learner: InContextTransformer, theta: dict[str, Tensor], tasks: Episode) -> None:
        self.engine, self.tasks, self.theta = Engine(learner), tasks, theta
        self.keys = Key.of(0).split(tree.length(tasks))
        self.meta = Gradient(lr=1e-3, clip=1.0)
        self.state = self.meta.begin(theta, Key.of(0))

    def gradients(self) -> dict[str, Tensor]:
        """Of the mean loss."""
        found: dict[str, Tensor] = self.engine.grad(self.theta, self.tasks, self.keys)[0]
        return found

    def __call__(self) -> None:
        gradient, outcome = self.engine.grad(self.theta, self.tasks, self.keys)
        self.theta, self.state = self.meta.descend(self.theta, self.state, gradient, outcome.loss)


def main() -> None:
    """Compare, and print."""
    given = arguments(__doc__ or "")
    rows, facts = [], {}
    for name, (learner, batch, shots) in SIZES.items():
        family = RandomProjectionTasks(shots=shots, queries=1)
        experiment = Experiment(tasks=family, learner=learner, task_batch=batch, device="cpu")
        theta, tasks = experiment.begin().theta, family.sample({}, batch, experiment.root).tasks
        ours, theirs = Ours(learner, theta, tasks), Peer(learner, theta, tasks, family.ways)
        one, other = ours.gradients(), theirs.gradients()
        facts[f"largest difference of gradients, {name}"] = max(float((one[n] - other[n]).abs().max()) for n in other)
        rows.append(compare(name, ("metaloop", ours), ("torch.nn", theirs), rounds=given.rounds, calls=(2, 2)))
        facts[f"tokens per second, {name}"] = 1e3 * batch * (shots + 1) / rows[-1].first_ms
    report("the causal transformer's meta-training step", rows, facts, given)


if __name__ == "__main__":
    main()
