"""nn.Modules as functions of a flat dict of tensors."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from metaloop.key import Key


def parameters(make: Callable[[], nn.Module], key: Key) -> dict[str, Tensor]:
    """Freshly initialised parameters of the module that `make` builds, on `key.device`.

    The module's own initialisation runs under the key's seed; the global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(key.seed())
        module = make()
    dtype = torch.get_default_dtype()
    return {
        name: value.detach().clone().to(key.device, dtype if value.is_floating_point() else None)
        for name, value in module.named_parameters()
    }


def skeleton(make: Callable[[], nn.Module]) -> nn.Module:
    """The module without trained values, for `call`; keep it in a `functools.cached_property`."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        return make().requires_grad_(False)


def call(module: nn.Module, theta: Mapping[str, Tensor], *args: Any, **kwargs: Any) -> Any:
    """`module(*args, **kwargs)` with parameters `theta`.

    Raises:
        RuntimeError: theta's names are not exactly the module's (a stray or missing key is never ignored).
    """
    values = {**dict(module.named_buffers()), **theta}
    return torch.func.functional_call(module, values, args, kwargs, strict=True)


def filled(module: nn.Module, theta: Mapping[str, Tensor]) -> nn.Module:
    """A copy of the module that holds theta, for use outside metaloop."""
    own = copy.deepcopy(module).requires_grad_(True)
    example = next(iter(theta.values()), None)
    if example is not None:
        own = own.to(example.device, example.dtype)
    own.load_state_dict({**dict(own.named_buffers()), **theta}, strict=True)
    return own
