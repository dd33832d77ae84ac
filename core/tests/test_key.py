"""Keys: equal paths give equal draws anywhere, other paths give unrelated ones."""

from __future__ import annotations

import copy
import itertools
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from metaloop import checkpoint
from metaloop.key import Key
from metaloop.precision import default_dtype
from scipy import stats
from torch import Tensor
from torch.func import grad, vmap

LABELS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.text(max_size=12))
PATHS = st.lists(LABELS, max_size=4)
SEEDS = st.integers(0, 2**64 - 1)
SHAPES = st.lists(st.integers(0, 4), max_size=3)
quick = settings(max_examples=60, deadline=None)

DRAWS: list[tuple[str, Callable[[Key], Tensor]]] = [
    ("bits", lambda key: key.bits(3)),
    ("uniform", lambda key: key.uniform(2, 3, low=-1.0)),
    ("normal", lambda key: key.normal(5)),
    ("randint", lambda key: key.randint(-3, 4, 6)),
    ("permutation", lambda key: key.permutation(7)),
]
each_draw = pytest.mark.parametrize("draw", [draw for _, draw in DRAWS], ids=[name for name, _ in DRAWS])


@given(seed=SEEDS, path=PATHS)
@quick
def test_equal_paths_give_equal_draws_however_they_are_folded(seed: int, path: list[Any]) -> None:
    at_once, one_by_one = Key.of(seed).fold(*path), Key.of(seed)
    for label in path:
        one_by_one = one_by_one.fold(label)
        one_by_one.normal(2)  # a draw changes nothing
    assert torch.equal(at_once.normal(4), one_by_one.normal(4))
    assert torch.equal(at_once.bits(4), at_once.bits(4))


@given(seed=SEEDS, label=st.integers(-(2**63), 2**63 - 1), path=PATHS)
@quick
def test_an_integer_and_a_tensor_of_its_value_are_the_same_label(seed: int, label: int, path: list[Any]) -> None:
    key = Key.of(seed).fold(*path)
    assert torch.equal(key.fold(label, "x").bits(2), key.fold(torch.tensor(label), "x").bits(2))


def test_small_integer_types_are_labels_too() -> None:
    for dtype in (torch.int32, torch.uint8, torch.bool):
        assert torch.equal(Key.of(0).fold(1).data, Key.of(0).fold(torch.tensor(1, dtype=dtype)).data)


@pytest.mark.parametrize("label", [0.5, torch.tensor(0.5), torch.tensor(1.0)])
def test_a_fraction_is_no_label(label: Any) -> None:
    with pytest.raises(TypeError, match="label"):
        Key.of(0).fold(label)


@given(seed=SEEDS, one=PATHS, other=PATHS)
@quick
def test_other_paths_give_other_draws(seed: int, one: list[Any], other: list[Any]) -> None:
    same = [(type(label), label) for label in one] == [(type(label), label) for label in other]
    assert torch.equal(Key.of(seed).fold(*one).bits(2), Key.of(seed).fold(*other).bits(2)) == same


def test_order_and_nesting_of_labels_matter() -> None:
    key = Key.of(3)
    paths = [(), ("a",), ("b",), ("a", "b"), ("b", "a"), ("ab",), (0,), (0, 0), (0, 1), (1, 0), ("0",), ("",), ("", "")]
    assert len({int(key.fold(*path).data) for path in paths}) == len(paths)
    assert int(key.data) not in key.bits(1000).tolist()
    assert not set(key.fold(0).bits(1000).tolist()) & set(key.bits(1000).tolist())


ELSEWHERE = """
import torch
from metaloop.key import Key
torch.manual_seed(17); torch.rand(3)
key = Key.of(12345).fold("théta", 7, torch.tensor(-2))
print(key.split(3).fold("x").bits(2).tolist(), key.normal(3, dtype=torch.float64).tolist(), key.seed())
"""


def test_draws_are_the_same_in_another_process() -> None:
    environment = {**os.environ, "PYTHONHASHSEED": "77", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE], capture_output=True, text=True, check=True, env=environment
    )
    key = Key.of(12345).fold("théta", 7, -2)
    here = (key.split(3).fold("x").bits(2).tolist(), key.normal(3, dtype=torch.float64).tolist(), key.seed())
    assert done.stdout.split() == " ".join(map(str, here)).split()


def test_bits_are_splitmix64() -> None:
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]  # Vigna's generator, seeded with 0
    assert [word % 2**64 for word in Key(torch.tensor(0)).bits(3).tolist()] == published


def test_draws_never_change_from_one_release_to_the_next() -> None:
    key = Key.of(0).fold("step", 3)
    assert key.bits(2).tolist() == [-1583224775461104370, 4479318511511369307]
    assert key.split(4).randint(0, 1000).tolist() == [336, 728, 594, 295]
    known = torch.tensor([-0.4610956609249115, 0.7185447216033936, 2.167541980743408])
    torch.testing.assert_close(key.normal(3), known, rtol=1e-6, atol=1e-7)


def test_folding_computes_nothing_until_something_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    from metaloop import key as module

    mixed: list[int] = []
    mix = module._mix
    monkeypatch.setattr(module, "_mix", lambda z: mixed.append(1) or mix(z))
    keys = Key.of(0).split(4)
    mixed.clear()
    folded = keys.fold("begin", 3)[1:].fold("more")
    assert not mixed
    folded.uniform()
    assert mixed


@each_draw
def test_a_batch_of_keys_equals_its_rows(draw: Callable[[Key], Tensor]) -> None:
    keys = Key.of(1).split(3).fold("x").split(2)  # [3, 2]
    together = draw(keys)
    assert together.shape[:2] == keys.shape == (3, 2)
    for i, j in itertools.product(range(3), range(2)):
        assert torch.equal(together[i, j], draw(keys[i, j]))
        assert torch.equal(together[i, j], draw(Key.of(1).fold(i, "x", j)))
    assert torch.equal(together[1:], draw(keys[1:]))


def test_a_tensor_of_labels_broadcasts_with_the_keys() -> None:
    keys = Key.of(1).split(3)
    labels = torch.tensor([5, 0, -1])
    folded = keys.fold("clock").fold(labels)
    assert folded.data.tolist() == [int(keys[i].fold("clock", int(labels[i])).data) for i in range(3)]
    assert Key.of(1).fold(labels).shape == (3,)


@each_draw
def test_vmap_equals_the_batch(draw: Callable[[Key], Tensor]) -> None:
    keys = Key.of(2).split(3)
    assert torch.equal(vmap(lambda key: draw(key.fold("a", 1)))(keys), draw(keys.fold("a", 1)))
    grid = keys.split(2)
    assert torch.equal(vmap(vmap(lambda key: draw(key.fold("a"))))(grid), draw(grid.fold("a")))
    steps = torch.arange(3)
    folded = vmap(lambda key, step: draw(key.fold("a", step)))(keys, steps)
    assert torch.equal(folded, draw(keys.fold("a").fold(steps)))


def test_keys_work_inside_grad() -> None:
    keys = Key.of(2).split(3)

    def loss(scale: Tensor, keys: Key) -> Tensor:
        return (scale * keys.fold("noise").normal(4)).sum()

    assert torch.equal(grad(loss)(torch.tensor(2.0), keys), keys.fold("noise").normal(4).sum())
    per_key = vmap(grad(loss), in_dims=(None, 0))(torch.tensor(2.0), keys)
    torch.testing.assert_close(per_key, keys.fold("noise").normal(4).sum(-1))


def test_a_key_drawn_from_inside_a_transform_is_as_good_as_before(tmp_path: Any) -> None:
    key = Key.of(2).fold("outside")
    expected = Key.of(2).fold("outside").normal(3)

    def loss(x: Tensor) -> Tensor:
        return (x * key.normal(3)).sum()  # the key is not an argument: its folds are computed inside

    assert torch.equal(vmap(grad(loss))(torch.ones(2, 3)), expected.expand(2, 3))
    assert torch.equal(key.normal(3), expected)
    assert torch.equal(vmap(lambda i: key.fold(i).normal(3))(torch.arange(2)), key.split(2).normal(3))
    checkpoint.save(tmp_path, 1, key)
    loaded = checkpoint.load(tmp_path)
    assert loaded is not None
    assert torch.equal(loaded[1].normal(3), expected)


@pytest.mark.slow
def test_compiled_draws_equal_plain_ones() -> None:
    def noise(theta: Tensor, keys: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        def one(key: Tensor) -> Tensor:
            folded = Key(key).fold("step").fold(step)
            return (theta * folded.normal(3)).sum() + folded.uniform() + folded.randint(-5, 5) + folded.permutation(3)

        def loss(theta: Tensor, key: Tensor) -> Tensor:
            return (theta * Key(key).fold("x", 2).normal(3)).sum()

        return vmap(grad(loss), in_dims=(None, 0))(theta, keys), vmap(one)(keys)

    arguments = torch.arange(3.0), Key.of(4).split(5).data, torch.tensor(3)
    compiled = torch.compile(noise, fullgraph=True, dynamic=False)(*arguments)
    for plain, quick in zip(noise(*arguments), compiled, strict=True):
        torch.testing.assert_close(quick, plain, rtol=1e-6, atol=1e-6)


N = 200_000


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_moments(dtype: torch.dtype) -> None:
    normal = Key.of(5).normal(N, dtype=dtype).double()
    for power, expected, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        assert abs(float((normal**power).mean()) - expected) < 5 * math.sqrt(variance / N)
    assert stats.kstest(normal.numpy(), "norm").pvalue > 1e-4
    uniform = Key.of(5).uniform(N, low=-1, high=3, dtype=dtype).double()
    assert -1 <= float(uniform.min()) < float(uniform.max()) < 3
    assert abs(float(uniform.mean()) - 1) < 5 * math.sqrt(16 / 12 / N)
    assert stats.kstest(uniform.numpy(), "uniform", args=(-1, 4)).pvalue > 1e-4


@pytest.mark.parametrize("bins", [7, 256])
def test_integers_are_uniform(bins: int) -> None:
    counts = torch.bincount(Key.of(6).randint(0, bins, N), minlength=bins)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-4


def test_every_bit_is_a_fair_coin() -> None:
    words = Key.of(7).split(N // 4).bits()  # one draw from each of many sibling keys
    ones = ((words[:, None] >> torch.arange(64)) & 1).double().mean(0)
    assert float((ones - 0.5).abs().max()) < 5 * 0.5 / math.sqrt(len(words))


SIBLINGS: dict[str, Callable[[int], Key]] = {
    "split": lambda i: Key.of(8).split(64)[i],
    "labels": lambda i: Key.of(8).fold(i),
    "labels under one": lambda i: Key.of(8).fold(i).fold("step", 0),
    "negative labels": lambda i: Key.of(8).fold(-i),
    "text": lambda i: Key.of(8).fold(f"p{i}"),
    "seeds": lambda i: Key.of(i),
    "high seeds": lambda i: Key.of(i << 58),
    "steps of seeds": lambda i: Key.of(i // 8).fold("step", i % 8),
}


@pytest.mark.parametrize("family", SIBLINGS.values(), ids=SIBLINGS.keys())
def test_siblings_are_not_correlated(family: Callable[[int], Key]) -> None:
    draws = torch.stack([family(i).normal(2000, dtype=torch.float64) for i in range(64)])
    off = torch.corrcoef(draws)[~torch.eye(64, dtype=torch.bool)]
    assert float(off.abs().max()) < 5.2 / math.sqrt(2000)
    first = torch.stack([family(i).uniform(dtype=torch.float64) for i in range(64)])  # along the siblings
    assert stats.kstest(first.numpy(), "uniform").pvalue > 1e-4
    lagged = torch.corrcoef(torch.stack([draws[:-1].flatten(), draws[1:].flatten()]))[0, 1]
    assert abs(float(lagged)) < 5 / math.sqrt(63 * 2000)


@given(seed=SEEDS, n=st.integers(0, 40))
@quick
def test_a_permutation_is_one(seed: int, n: int) -> None:
    assert sorted(Key.of(seed).permutation(n).tolist()) == list(range(n))


def test_permutations_are_uniform() -> None:
    rows = Key.of(9).split(24_000).permutation(4)
    counts = torch.bincount((rows * torch.tensor([64, 16, 4, 1])).sum(-1)).numpy()
    counts = counts[counts > 0]
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-4


@given(seed=SEEDS, shape=SHAPES, batch=SHAPES)
@quick
def test_shapes(seed: int, shape: list[int], batch: list[int]) -> None:
    keys = Key.of(seed)
    for n in batch:
        keys = keys.split(n)
    expected = (*batch, *shape)
    assert keys.shape == tuple(batch)
    assert keys.uniform(*shape).shape == keys.normal(*shape).shape == keys.bits(*shape).shape == expected
    assert keys.randint(0, 3, *shape).shape == expected
    assert keys.permutation(3).shape == (*batch, 3)


@given(seed=SEEDS, low=st.integers(-(2**40), 2**40), width=st.integers(1, 2**41))
@quick
def test_randint_stays_inside_and_reaches_both_ends(seed: int, low: int, width: int) -> None:
    drawn = Key.of(seed).randint(low, low + width, 50)
    assert drawn.dtype == torch.int64
    assert low <= int(drawn.min()) <= int(drawn.max()) < low + width
    assert set(Key.of(seed).randint(-2, 1, 200).tolist()) == {-2, -1, 0}


@pytest.mark.parametrize(("low", "high"), [(0, 0), (3, 2), (-1, -1)])
def test_an_empty_range_is_refused(low: int, high: int) -> None:
    with pytest.raises(ValueError, match="low < high"):
        Key.of(0).randint(low, high)


def test_draws_follow_the_default_type() -> None:
    key = Key.of(10)
    assert key.normal(2).dtype == key.uniform(2).dtype == torch.float32
    with default_dtype(torch.float64):
        assert key.normal(2).dtype == key.uniform(2).dtype == torch.float64
        assert key.normal(2, dtype=torch.float32).dtype == torch.float32


def test_float64_has_53_digits_and_float32_24() -> None:
    fine = Key.of(11).uniform(1000, dtype=torch.float64) * 2.0**53
    assert torch.equal(fine, fine.round())
    assert 0.4 < float((fine % 2).mean()) < 0.6  # the last digit is used
    coarse = Key.of(11).uniform(1000).double() * 2.0**24
    assert torch.equal(coarse, coarse.round())
    assert 0.4 < float((coarse % 2).mean()) < 0.6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_draws_stay_in_range_in_every_type(dtype: torch.dtype) -> None:
    uniform = Key.of(12).uniform(N, dtype=dtype)
    assert float(uniform.min()) >= 0
    assert float(uniform.max()) < 1
    normal = Key.of(12).normal(N, dtype=dtype)
    assert normal.dtype == dtype
    assert bool(normal.isfinite().all())
    assert abs(float(normal.double().std()) - 1) < 0.02


class Full(Key):
    """A key whose every bit is one: the largest draw there is."""

    def bits(self, *shape: int) -> Tensor:
        return torch.full(shape, -1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (1.0, 2.0), (-5.0, 5.0), (0.1, 0.3), (1000.0, 1001.0)])
def test_the_upper_end_is_never_drawn(dtype: torch.dtype, low: float, high: float) -> None:
    largest = Full(torch.tensor(0)).uniform(1, low=low, high=high, dtype=dtype)
    assert low <= float(largest) < high


def test_generators_and_seeds_are_reproducible() -> None:
    key = Key.of(13).fold("weights")
    assert torch.equal(torch.randn(5, generator=key.generator()), torch.randn(5, generator=key.generator()))
    assert key.seed() == Key.of(13).fold("weights").seed()
    seeds = [Key.of(13).fold(i).seed() for i in range(100)]
    assert len(set(seeds)) == 100
    assert all(0 <= seed < 2**63 for seed in seeds)
    state = torch.get_rng_state()
    assert key.generator().initial_seed() == key.seed()
    key.normal(3)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_key_moves_to_a_device_with_its_path() -> None:
    key = Key.of(14).fold("x")
    moved = key.to("meta")
    assert moved.device.type == "meta"
    assert moved.fold("y", 2).normal(3).device.type == "meta"
    assert moved.split(4).randint(0, 9, 2).shape == (4, 2)
    assert torch.equal(key.to("cpu").normal(3), Key.of(14).fold("x").normal(3))
    assert Key.of(14, "meta").device.type == "meta"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_bits_are_the_same_on_another_device() -> None:
    key = Key.of(14).fold("x").split(3)
    assert torch.equal(key.to("cuda").bits(5).cpu(), key.bits(5))


def test_keys_travel() -> None:
    key = Key.of(15).fold("x", 3)
    for twin in (copy.deepcopy(key), pickle.loads(pickle.dumps(key))):
        assert torch.equal(twin.normal(3), key.normal(3))


def test_a_batch_has_a_length_and_rows() -> None:
    keys = Key.of(16).split(3)
    assert len(keys) == 3
    assert [int(key.data) for key in keys] == keys.data.tolist()
    assert repr(keys) == "Key(shape=(3,), device=cpu)"
