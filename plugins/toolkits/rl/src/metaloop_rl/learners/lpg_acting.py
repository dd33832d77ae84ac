"""What agents under a learned rule do between two updates, and the randomness of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from metaloop import Key
from torch import Tensor

from metaloop_rl.envs.env import EnvState, Step
from metaloop_rl.learners.lpg_agent import Heads, View
from metaloop_rl.models import Theta


class Segment(NamedTuple):
    """What happened, `[task, time, worker]`, and what was seen after it."""

    seen: View
    """`[task, (time + 1) * worker]`, time by time."""
    after: View
    """`[task, time * worker]`: what each step led to, before any reset."""
    action: Tensor
    reward: Tensor
    terminated: Tensor
    done: Tensor


def chances(lives: Key, steps: range, actions: int) -> Iterator[tuple[Tensor, Key]]:
    """What is random in each of some steps: noise on logits whose largest is the action (Gumbel-max), and a key.

    All of it at once, for keys `[task, worker]`: step by step, hashing takes as long as the environment.
    """
    labels = torch.arange(steps.start, steps.stop, device=lives.device)[:, None, None]
    own = Key(lives.fold(labels).data)  # [step, task, worker]
    gumbel = -(-own.fold("policy").uniform(actions).log()).log()
    keys = own.fold("environment").data
    # Copies, because a compiled step is made anew for each place that a view begins at.
    return ((noise.clone(), Key(key.clone())) for noise, key in zip(gumbel.unbind(0), keys.unbind(0), strict=True))


Move = Callable[..., tuple[Tensor, Step]]
"""`moved`, the heads given."""


def moved(
    heads: Heads, env: Any, actor: Theta, state: EnvState, seen: Tensor, gumbel: Tensor, key: Tensor, anew: bool
) -> tuple[Tensor, Step]:
    """Actions `[task, worker]` and what they lead to; with `anew` an episode that ends is followed by the next."""
    action = (heads.outputs(actor, View(seen, state.time)) + gumbel).argmax(-1)
    return action, (env.step_and_reset if anew else env.step)(state, action, Key(key))


def readable(mask: Tensor) -> bool:
    """Whether the values of a tensor can be looked at: not under `vmap`, nor while compiling."""
    return not torch.compiler.is_compiling() and not torch._C._functorch.is_functorch_wrapped_tensor(mask)
