"""A rule that is known to work, written into the network by hand: REINFORCE with exponentially discounted rewards."""

from __future__ import annotations

import torch
from metaloop import Key
from metaloop_rl.learners.lpg_network import LpgNetwork
from metaloop_rl.models import Theta


def reinforce(network: LpgNetwork, keep: float = 0.9, strength: float = 10.0) -> Theta:
    """Two units of the GRU follow the rewards to come, one of each sign; the rest is silent.

    Args:
        network: with two units at least.
        keep: how much of what comes later counts at each step (the update gate).
        strength: of pi_hat.
    """
    theta = {name: torch.zeros_like(value) for name, value in network.init(Key.of(0)).items()}
    h = network.hidden
    theta["gru.input.bias"][h : 2 * h] = torch.logit(torch.tensor(keep))
    theta["gru.input.weight"][2 * h, 0], theta["gru.input.weight"][2 * h + 1, 0] = 1.0, -1.0
    theta["pi.weight"][0, 0], theta["pi.weight"][0, 1] = -strength, strength
    return theta
