"""metaloop's second-order meta-gradient against the packages that people use now."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from metaloop.engine import Engine
from metaloop.functional import filled
from metaloop.key import Key
from metaloop.objective import TaskObjective
from metaloop_basics.learners.maml import Maml
from metaloop_basics.tasks.regression import Sinusoid
from torch import nn

from .benchmarks.peers import PEERS, gradients

MODULES = {"TorchOpt MetaSGD": "torchopt", "higher": "higher"}


@pytest.mark.parametrize("peer", PEERS)
def test_same_second_order_meta_gradient(peer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec(MODULES[peer]) is None:
        pytest.skip(f"{MODULES[peer]} is not installed (dependency group dev)")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        family, learner = Sinusoid(shots=5, queries=7), Maml(steps=3, inner_lr=0.05)
        theta = learner.init(family.spec, Key.of(0))
        objective: TaskObjective[dict[str, torch.Tensor]] = TaskObjective(Engine(learner), family, {}, 4, Key.of(1))
        ours, _ = objective.grad(theta)
        module = filled(learner.module_for(family.spec), theta)
        theirs = gradients(module, PEERS[peer](module, nn.functional.mse_loss, 0.05, 3), objective.draw.tasks)
    finally:
        torch.set_default_dtype(before)
    assert ours.keys() == theirs.keys()
    assert max(value.abs().max() for value in ours.values()) > 0.01
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-5)
