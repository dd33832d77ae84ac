"""nn.Modules as functions of a flat dict of tensors."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from metaloop.key import Key


def parameters(make: Callable[[], nn.Module], key: Key) -> dict[str, Tensor]:
    """Freshly initialised parameters of the module that `make` builds, on `key.device`.

    The module's own initialisation runs under the key's seed; the global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(key.seed())  # torch.manual_seed would seed the accelerators too
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
    names, buffers = _content(module)
    if buffers and theta:
        example = next(iter(theta.values()))
        theta = {**{name: _like(buffer, example) for name, buffer in buffers.items()}, **theta}
    strict = theta.keys() != names  # torch's own check walks the module in every call: it is left the message
    return torch.func.functional_call(module, dict(theta), args, kwargs, strict=strict)


def filled(module: nn.Module, theta: Mapping[str, Tensor]) -> nn.Module:
    """A copy of the module that holds theta, for use outside metaloop.

    Raises:
        RuntimeError: theta's names are not exactly the module's.
    """
    own = copy.deepcopy(module).requires_grad_(True)
    example = next(iter(theta.values()), None)
    if example is not None:
        own = own.to(example.device, example.dtype)
    parameters = dict(own.named_parameters())  # not the state_dict, which names a shared parameter twice
    if parameters.keys() != theta.keys():
        raise RuntimeError(f"the module has the parameters {sorted(parameters)}, theta has {sorted(theta)}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(theta[name])
    return own


Content = tuple[frozenset[str], dict[str, Tensor]]

_known: WeakKeyDictionary[nn.Module, Content] = WeakKeyDictionary()


def _content(module: nn.Module) -> Content:
    """The names of a skeleton's parameters and buffers, and its buffers.

    Looked up once: walking a module's children costs more than a small network's call.
    """
    if torch.compiler.is_compiling():
        return frozenset(), dict(module.named_buffers())
    found = _known.get(module)
    if found is None:
        buffers = dict(module.named_buffers())
        found = frozenset([*buffers, *(name for name, _ in module.named_parameters())]), buffers
        _known[module] = found
    return found


def _like(buffer: Tensor, example: Tensor) -> Tensor:
    """A buffer where theta is, and as fine: skeletons are built on the CPU."""
    return buffer.to(example.device, example.dtype if buffer.is_floating_point() else None)
