"""Whether the first layer copies neighbouring tokens together (paper, section on separate tokens)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from metaloop import Episode
from torch import Tensor

from metaloop_icl_gd.regression import rows

if TYPE_CHECKING:
    from metaloop_icl_gd.transformer import LSATransformer, Theta


class Copying(NamedTuple):
    """How strongly the first layer's outputs depend on input tokens: norms of derivatives, `[task]`.

    A token's output is summed over its coordinates; norms are averaged over the context's tokens but the last.
    """

    copy_own: Tensor
    """On the token itself."""
    copy_next: Tensor
    """On the token that follows: an x token that sees its y."""
    copy_others: Tensor
    """On each other token."""


def copying(learner: LSATransformer, theta: Theta, tasks: Episode) -> Copying:
    """Measure a first layer with separate tokens."""
    tokens = learner.context_tokens(theta, tasks)
    n = tokens.shape[1]

    def first_layer(tokens: Tensor) -> Tensor:
        return learner.layer(theta, 0, tokens, tokens).sum(-1)

    outputs, pull = torch.func.vjp(first_layer, tokens)[:2]
    directions = torch.eye(n, dtype=outputs.dtype, device=outputs.device)[: n - 1, None, :].expand(-1, *outputs.shape)
    slopes = torch.func.vmap(lambda direction: pull(direction)[0])(directions)  # [output, task, input, width]
    size = slopes[..., : rows(tasks.support_x).shape[-1]].norm(dim=-1)  # positions are no inputs
    own, following = size.diagonal(dim1=0, dim2=2), size[..., 1:].diagonal(dim1=0, dim2=2)  # [task, output]
    others = (size.sum(2).T - own - following) / (n - 2)
    return Copying(own.mean(1), following.mean(1), others.mean(1))
