"""Randomness as a value.

A `Key` names a stream of random numbers. Folding labels into a key names another stream, so a draw depends on the path
that leads to it (seed, step, task, purpose) and on nothing else: equal paths give equal draws in any process, whatever
else was drawn before. Draws are plain int64 tensor arithmetic (SplitMix64, Steele et al. 2014), so they work under
`vmap`, `grad` and `torch.compile`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


def _signed(word: int) -> int:
    word &= _MASK
    return word - (1 << 64) if word >> 63 else word


def _mix_int(z: int) -> int:
    z &= _MASK
    z = ((z ^ (z >> 30)) * _MIX_1) & _MASK
    z = ((z ^ (z >> 27)) * _MIX_2) & _MASK
    return z ^ (z >> 31)


def _shift(z: Tensor, bits: int) -> Tensor:
    """Logical right shift: torch's `>>` on int64 copies the sign bit."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift(z, 30)) * _signed(_MIX_1)
    z = (z ^ _shift(z, 27)) * _signed(_MIX_2)
    return z ^ _shift(z, 31)


def _label(what: str | int) -> int:
    """A label as a 64-bit word. Strings by FNV-1a in Python arithmetic, which `torch.compile` can trace."""
    if isinstance(what, str):
        word = 0xCBF29CE484222325
        for char in what:
            word = ((word ^ ord(char)) * 0x100000001B3) & _MASK
        return word
    if isinstance(what, int):
        return what & _MASK
    raise TypeError(f"a label of a key is text, an integer or an integer tensor, not {type(what).__name__}")


_FOLD = 0x5851F42D4C957F2D  # keeps label 0 from mixing to 0, which would make a child equal its parent's first draw


def _word(what: str | int) -> int:
    """What a label is folded in as."""
    return _signed(_mix_int(_label(what) ^ _FOLD))


_word_of = lru_cache(maxsize=4096, typed=True)(_word)


class Key:
    """A stream of random numbers, or a batch of them along leading axes.

    Folding is lazy: nothing is computed until something is drawn, so keys that nobody draws from cost nothing.
    """

    __slots__ = ("_labels", "_parent", "_path", "_state")

    def __init__(
        self, state: Any, path: tuple[int, ...] = (), parent: Key | None = None, labels: Tensor | None = None
    ) -> None:
        """Wrap a state `[...]` int64; users begin with `Key.of(seed)`.

        With a parent the state is not known yet: it is the parent's, folded with labels `[...]`.
        """
        self._state = state
        self._path = path
        self._parent = parent
        self._labels = labels

    @staticmethod
    def of(seed: int, device: torch.device | str = "cpu") -> Key:
        """The key that a seed names."""
        return Key(torch.tensor(_signed(_mix_int(seed + _GOLDEN)), dtype=torch.int64, device=device))

    @property
    def data(self) -> Tensor:
        """The stream's state `[...]` int64, all folds applied.

        It is not kept: what is computed inside `grad` or `vmap` must not outlive them.
        """
        state: Tensor = self._state
        if self._parent is not None and self._labels is not None:
            words = _mix(self._labels.to(torch.int64) ^ _signed(_FOLD))
            state = _mix((self._parent.data ^ words) + _signed(_GOLDEN))
        for word in self._path:
            state = _mix((state ^ word) + _signed(_GOLDEN))
        return state

    @property
    def shape(self) -> torch.Size:
        """The leading axes: `()` for one key, `[n]` for a batch."""
        if self._parent is not None and self._labels is not None:
            shape: torch.Size = torch.broadcast_shapes(self._parent.shape, self._labels.shape)  # type: ignore[no-untyped-call]
        else:
            shape = self._state.shape
        return shape

    @property
    def device(self) -> torch.device:
        """Where draws land."""
        device: torch.device = self._state.device if self._parent is None else self._parent.device
        return device

    def fold(self, *what: str | int | Tensor) -> Key:
        """The key of a sub-stream, named by labels; a tensor label `[...]` broadcasts with the key's axes.

        Integers and integer tensors of the same value name the same stream.
        """
        key = self
        for label in what:
            if isinstance(label, Tensor):
                if label.is_floating_point():
                    raise TypeError("a label of a key is text, an integer or an integer tensor, not a float tensor")
                key = Key(None, parent=key, labels=label)
            else:
                word = _word(label) if torch.compiler.is_compiling() else _word_of(label)
                path = (*key._path, word)
                key = Key(key._state, path, key._parent, key._labels)
        return key

    def split(self, n: int) -> Key:
        """A batch of `n` keys: a new trailing key axis `[..., n]`."""
        return Key(Key(self.data[..., None]).fold(torch.arange(n, device=self.device)).data)

    def spread(self) -> tuple[Tensor, Callable[[Tensor], Key]]:
        """A tensor `[n]` to `vmap` over, and how a row's key is made of its row: still without computing anything."""
        parent, path = self._parent, self._path
        if parent is None or self._labels is None or parent.shape:
            return self.data, Key
        return self._labels, lambda row: Key(None, path, parent, row)

    def __getitem__(self, rows: Any) -> Key:
        """Rows of a batch of keys."""
        if self._parent is None:
            return Key(self._state[rows], self._path)
        if self._labels is None or self._parent.shape:
            return Key(self.data[rows])
        return Key(None, self._path, self._parent, self._labels[rows])

    def __len__(self) -> int:
        return int(self.shape[0])

    def to(self, device: torch.device | str) -> Key:
        """The same key on another device."""
        return Key(self.data.to(device))

    def bits(self, *shape: int) -> Tensor:
        """64 random bits each, `[key axes, *shape]` int64."""
        count = math.prod(shape)
        # 1, 2, ..., count. Written with ~, or the compiler takes counter * _GOLDEN for an index and overflows.
        counter = ~torch.arange(-2, -2 - count, -1, device=self.device)
        words = _mix(self.data[..., None] + counter * _signed(_GOLDEN))
        return words.reshape(self.shape + shape)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0, dtype: torch.dtype | None = None) -> Tensor:
        """Uniform draws in `[low, high)`, `[key axes, *shape]`."""
        dtype = dtype or torch.get_default_dtype()
        unit = _unit(self.bits(*shape), dtype)
        if (low, high) == (0.0, 1.0):
            return unit
        drawn = low + (high - low) * unit
        return torch.where(drawn < high, drawn, low)  # a sum may be rounded up to `high`

    def normal(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """Standard normal draws by Box-Muller, `[key axes, *shape]`."""
        dtype = dtype or torch.get_default_dtype()
        fine = torch.promote_types(dtype, torch.float32)  # half precision has too few digits for the tails
        count = math.prod(shape)
        half = (count + 1) // 2
        words = self.bits(2, half)
        radius = torch.sqrt(-2.0 * torch.log1p(-_unit(words[..., 0, :], fine)))
        angle = (2.0 * math.pi) * _unit(words[..., 1, :], fine)
        both = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=-1)
        return both[..., :count].reshape(self.shape + shape).to(dtype)

    def randint(self, low: int, high: int, *shape: int) -> Tensor:
        """Integers in `[low, high)`, `[key axes, *shape]` int64; the bias is below `(high - low) / 2**63`."""
        if high <= low:
            raise ValueError(f"randint needs low < high, got [{low}, {high})")
        return low + _shift(self.bits(*shape), 1) % (high - low)

    def permutation(self, n: int) -> Tensor:
        """A random order of `range(n)`, `[key axes, n]` int64."""
        return torch.argsort(self.bits(n), dim=-1)

    def seed(self) -> int:
        """A seed in `[0, 2**63)` for NumPy, Gymnasium and the like; one key, outside `vmap`."""
        return int(self.data) & ((1 << 63) - 1)

    def generator(self, device: torch.device | str | None = None) -> torch.Generator:
        """A torch generator for big draws (initial weights, data); one key, outside `vmap`."""
        generator = torch.Generator(self.device if device is None else device)
        generator.manual_seed(self.seed())
        return generator

    def __repr__(self) -> str:
        return f"Key(shape={tuple(self.shape)}, device={self.device})"


_DIGITS = {torch.float64: 53, torch.float32: 24, torch.float16: 11, torch.bfloat16: 8}


def _unit(words: Tensor, dtype: torch.dtype) -> Tensor:
    """Bits as fractions in `[0, 1)`, as fine as the type can hold."""
    digits = _DIGITS[dtype]
    return _shift(words, 64 - digits).to(dtype) * (2.0**-digits)


pytree.register_pytree_node(
    Key,
    lambda key: ([key.data], None),
    lambda children, _: Key(next(iter(children))),
    serialized_type_name="metaloop.Key",
)
