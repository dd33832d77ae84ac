import hashlib
import json
import math
import random
import sys
import types
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from metaloop import checkpoint
from metaloop.component import Component
from metaloop.errors import CorruptCheckpoint, UserError
from metaloop.key import Key
from metaloop.outcome import Carry, Clock, Draw
from metaloop.skeleton import revive


class Point(NamedTuple):
    x: Any
    y: Any = None


class World(Component):
    gravity: float = 9.8
    walls: tuple[str, ...] = ()


class Worlds(NamedTuple):
    world: World
    parameters: Any


class Counter:
    def __init__(self) -> None:
        self.count = 0
        self.seen: list[torch.Tensor] = []

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count, self.seen = state["count"], state["seen"]


def bits(tensor: torch.Tensor) -> bytes:
    tensor = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def same(a: Any, b: Any) -> bool:
    """Equal in type, order and every bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return (a.dtype, a.shape, bits(a)) == (b.dtype, b.shape, bits(b))
    if isinstance(a, Key):
        return same(a.data, b.data)
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a, math.copysign(1, a)) == (b, math.copysign(1, b))
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


DTYPES = [
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64, torch.complex128),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    *(torch.float8_e4m3fn, torch.float8_e5m2, torch.bool),
]


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """Any bits, so that NaNs with a payload and signed zeros occur; axes in any order."""
    dtype, shape = draw(st.sampled_from(DTYPES)), draw(st.lists(st.integers(0, 3), max_size=3))
    size = math.prod(shape) * dtype.itemsize
    data = torch.tensor(list(draw(st.binary(min_size=size, max_size=size))), dtype=torch.uint8)
    tensor = (data % 2).bool() if dtype == torch.bool else data.view(dtype)
    return tensor.reshape(shape).permute(draw(st.permutations(range(len(shape)))))


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
KEYS = st.text() | st.integers() | st.tuples(st.integers(), st.text())
LEAVES = SCALARS | tensors() | st.integers(0, 2**60).map(Key.of) | st.just(Key.of(3).split(2))
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.dictionaries(KEYS, inner, max_size=3).map(OrderedDict)
        | st.builds(Point, inner, inner)
        | st.builds(Draw, inner, inner)
        | st.builds(
            Worlds, st.builds(World, gravity=st.floats(allow_nan=False), walls=st.lists(st.text()).map(tuple)), inner
        )
    ),
    max_leaves=8,
)


def seal(content: Any) -> bytes:
    text = json.dumps(content).encode()
    return b'{"sha256":"%s","checkpoint":%s}\n' % (hashlib.sha256(text).hexdigest().encode(), text)


def forge(path: Path, skeleton: Any) -> None:
    """Give a sound checkpoint another skeleton and the hash that fits."""
    content = json.loads((path / "tree.json").read_bytes())["checkpoint"]
    (path / "tree.json").write_bytes(seal(content | {"skeleton": skeleton}))


def tree_at(step: int) -> dict[str, Any]:
    return {
        "theta": {"w": torch.full((50, 4), float(step))},
        "archive": [Point(step, "text")] * step,
        "key": Key.of(step),
    }


def loaded(folder: Path) -> tuple[int, Any]:
    """What is in a folder; a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = checkpoint.load(folder)
    assert found is not None
    return found


@given(TREES)
@settings(max_examples=60, deadline=None)
def test_any_tree_comes_back_bit_identical(tmp_path_factory: pytest.TempPathFactory, tree: Any) -> None:
    folder = tmp_path_factory.mktemp("checkpoints")
    checkpoint.save(folder, 3, tree)
    step, back = loaded(folder)
    assert step == 3
    assert same(tree, back)


def test_learners_values_come_back(tmp_path: Path) -> None:
    clock = Clock(torch.arange(3), torch.full((3,), 9))
    tree = {
        "carry": Carry(
            Draw(Point(torch.randn(3, 2)), tag=None), {"fast": torch.randn(3, 4, 5)}, clock, Key.of(0).split(3)
        ),
        "numbers": [math.inf, -math.inf, math.nan, -0.0, 10**5000, -(2**63), True, 1, 1.0],
        "archive": {(0, "cell"): "x*x", 7: None, True: OrderedDict(a=())},
        "odd.key": "\ud800\0é",
    }
    checkpoint.save(tmp_path, 0, tree)
    assert same(tree, loaded(tmp_path)[1])


def test_memory_order_and_sharing_of_tensors_are_kept(tmp_path: Path) -> None:
    base = torch.randn(4, 3, 2)
    tree = {
        "base": base,
        "again": base,
        "permuted": base.permute(2, 0, 1),
        "row": base[1],
        "wide": torch.ones(1).expand(5),
    }
    checkpoint.save(tmp_path, 0, tree)
    back = loaded(tmp_path)[1]
    assert same(tree, back)
    assert back["permuted"].stride() == tree["permuted"].stride()
    assert back["again"] is back["base"]
    assert (tmp_path / "000000/tensors.safetensors").stat().st_size < 3 * base.nbytes + 1000


def test_gradients_are_dropped_and_the_given_tree_is_left_alone(tmp_path: Path) -> None:
    theta = {"w": torch.nn.Parameter(torch.ones(2)), "conjugate": torch.ones(2, dtype=torch.complex64).conj()}
    checkpoint.save(tmp_path, 0, theta)
    back = loaded(tmp_path)[1]
    assert theta["w"].requires_grad
    assert not back["w"].requires_grad
    assert type(back["w"]) is torch.Tensor
    assert torch.equal(back["conjugate"], theta["conjugate"])


def test_load_puts_tensors_and_keys_on_the_device(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 0, {"x": torch.ones(2), "key": Key.of(1)})
    found = checkpoint.load(tmp_path, device="meta")
    assert found is not None
    assert found[1]["x"].is_meta
    assert found[1]["key"].device.type == "meta"


def test_live_objects_get_their_state_back(tmp_path: Path) -> None:
    def world() -> dict[str, Any]:
        net = torch.nn.Linear(2, 1)
        return {"net": net, "adam": torch.optim.Adam(net.parameters()), "worlds": [Counter(), Point(Counter())], "n": 0}

    live = world()
    live["net"](torch.ones(3, 2)).sum().backward()
    live["adam"].step()
    live["worlds"][1].x.count, live["worlds"][1].x.seen, live["n"] = 5, [torch.ones(2)], 1
    checkpoint.save(tmp_path, 1, live)

    fresh = world()
    found = checkpoint.load(tmp_path)
    assert found is not None
    back = revive(found[1], fresh)
    assert back["net"] is fresh["net"]
    assert same(dict(live["net"].state_dict()), dict(back["net"].state_dict()))
    assert same(live["adam"].state_dict(), back["adam"].state_dict())
    assert (back["worlds"][1].x.count, back["n"]) == (5, 1)
    assert same(back["worlds"][1].x.seen, [torch.ones(2)])
    with pytest.raises(UserError, match=r"net is the state of a live torch.*Linear"):
        revive(found[1], {"n": 0})


class Nested(Counter):
    def state_dict(self) -> dict[str, Any]:
        return {"inner": Counter()}


def _local_tuple() -> Any:
    class Hidden(NamedTuple):
        x: int

    return Hidden(1)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"state": {"archive": [0, 1, 2, Point({"fn": print})]}}, r"^state\.archive\[3\]\.x\.fn is a builtin_function"),
        ({"a": {1, 2}}, r"^a is a set: a checkpoint holds dicts"),
        ([b"x"], r"^\[0\] is a bytes"),
        (np.float64(1), r"^the tree is a float64"),
        ({"not a name": np.ones(2)}, r"^\['not a name'\] is a ndarray"),
        ({b"k": 1}, r"^the tree has a key that is a bytes"),
        ((torch.eye(2).to_sparse(),), r"^\[0\] is a Tensor: a torch.sparse_coo tensor"),
        ((torch.empty(2, device="meta"),), r"^\[0\] is a Tensor: it is on the meta device"),
        ({"p": _local_tuple()}, r"^p is a Hidden: its class can't be found .* define it at the top of a module"),
        ({"w": Nested()}, r"^w\.state_dict\(\)\.inner is a Counter"),
        ({"size": torch.Size([1])}, r"^size is a Size"),
    ],
)
def test_what_cannot_be_stored_is_named_with_its_place(tmp_path: Path, tree: Any, message: str) -> None:
    checkpoint.save(tmp_path, 0, "before")
    with pytest.raises(TypeError, match=message):
        checkpoint.save(tmp_path, 1, tree)
    assert [path.name for path in tmp_path.iterdir()] == ["000000"]


def test_a_tree_that_contains_itself_is_refused(tmp_path: Path) -> None:
    tree: list[Any] = []
    tree.append(tree)
    with pytest.raises(TypeError, match="contains itself"):
        checkpoint.save(tmp_path, 0, tree)


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path / "none") is None
    assert checkpoint.newest(tmp_path / "none") is None
    (tmp_path / "writing-1").mkdir()
    (tmp_path / "removing-000001").mkdir()
    for step in (5, 10, 2_000_000):
        assert checkpoint.save(tmp_path, step, tree_at(1)).name == f"{step:06d}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000010", "2000000"]
    assert checkpoint.newest(tmp_path) == 2_000_000
    checkpoint.save(tmp_path, 12, tree_at(1), keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["000012"], "later steps belong to an abandoned run"


def test_one_changed_byte_anywhere_is_noticed(tmp_path: Path) -> None:
    rng = random.Random(0)
    for step in (1, 2):
        checkpoint.save(tmp_path, step, tree_at(step))
    for name in ("tree.json", "tensors.safetensors"):
        file = tmp_path / "000002" / name
        sound = file.read_bytes()
        places = [0, 1, len(sound) - 1, *(rng.randrange(len(sound)) for _ in range(40))]
        for place in places:
            broken = bytearray(sound)
            broken[place] ^= rng.randrange(1, 256)
            file.write_bytes(broken)
            with pytest.warns(UserWarning, match="000002 is damaged.*trying the checkpoint before it"):
                found = checkpoint.load(tmp_path)
            assert found is not None
            assert same(found, (1, tree_at(1)))
        file.write_bytes(sound)
    assert loaded(tmp_path)[0] == 2


@pytest.mark.parametrize("name", ["tree.json", "tensors.safetensors"])
def test_a_truncated_or_missing_file_is_noticed(tmp_path: Path, name: str) -> None:
    for step in (1, 2):
        checkpoint.save(tmp_path, step, tree_at(step))
    file = tmp_path / "000002" / name
    sound = file.read_bytes()
    for length in (len(sound) - 1, len(sound) // 2, 10, 0, None):
        file.unlink() if length is None else file.write_bytes(sound[:length])
        with pytest.warns(UserWarning, match="000002 is damaged"):
            found = checkpoint.load(tmp_path)
        assert found is not None
        assert found[0] == 1
    checkpoint.save(tmp_path, 2, tree_at(2))
    assert same(loaded(tmp_path), (2, tree_at(2)))


def test_when_all_are_damaged_it_says_so(tmp_path: Path) -> None:
    for step in (1, 2):
        (checkpoint.save(tmp_path, step, tree_at(step)) / "tree.json").write_text("{}")
    with pytest.warns(UserWarning, match="is damaged"), pytest.raises(CorruptCheckpoint, match="000002, 000001"):
        checkpoint.load(tmp_path)


def test_a_forged_skeleton_imports_and_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trap_module.py").write_text("class Trap(tuple):\n    _fields = ()\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = checkpoint.save(tmp_path / "checkpoints", 0, Point(1, 2))
    fields = [["x", 1], ["y", 2]]
    for name in (
        "trap_module:Trap",
        "os:system",
        "subprocess:Popen",
        "builtins:tuple",
        "collections:OrderedDict",
        "os",
    ):
        for skeleton in ({"named": name, "fields": fields}, {"component": name, "json": "{}"}):
            forge(path, skeleton)
            with pytest.raises(UserError, match=f"saved as {name}, which isn't loaded"):
                checkpoint.read(path)
    assert "trap_module" not in sys.modules


@pytest.mark.parametrize(
    "skeleton",
    [
        {"eval": "1"},
        {"tensor": "not there"},
        {"tensor": "000000 ", "order": [0, 0]},
        {"tensor": "000000 ", "order": "ab"},
        {"int": "print"},
        {"float": "1.5"},
        {"dict": [["one"]]},
        {"dict": [[{"tuple": [[]]}, 1]]},
        {"dict": [[{"tensor": "000000 "}, 1]]},
        {"key": 5},
        {"named": 3, "fields": []},
        {"component": 3, "json": "{}"},
        {"tuple": {}},
    ],
)
def test_a_malformed_skeleton_is_damage(tmp_path: Path, skeleton: Any) -> None:
    path = checkpoint.save(tmp_path, 0, torch.ones(2, 2))
    forge(path, {"tensor": "000000 ", "order": [1, 0]})
    assert checkpoint.read(path)[1].shape == (2, 2)
    forge(path, skeleton)
    with pytest.raises(CorruptCheckpoint, match=r"malformed|missing|axes"):
        checkpoint.read(path)


def test_a_class_that_is_not_loaded_or_has_changed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = types.ModuleType("plugin_of_yesterday")
    module.State = NamedTuple("State", [("a", int)])  # type: ignore[misc]
    module.State.__module__ = module.__name__
    monkeypatch.setitem(sys.modules, module.__name__, module)
    checkpoint.save(tmp_path, 0, {"state": module.State(1)})
    assert same(loaded(tmp_path)[1], {"state": module.State(1)})

    module.State = type("State", (module.State,), {"_fields": ("a", "b")})
    with pytest.raises(UserError, match=r"state was saved with the fields a, but .*State now has a, b"):
        checkpoint.load(tmp_path)
    monkeypatch.delitem(sys.modules, module.__name__)
    with pytest.raises(UserError, match=r"state was saved as plugin_of_yesterday:State.*import plugin_of_yesterday"):
        checkpoint.load(tmp_path)


def test_a_component_that_has_changed_is_named(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 0, {"world": World(gravity=3.0)})
    fields = {"component": World.component_id(), "gravity": "none", "walls": []}
    forge(path, {"dict": [["world", {"component": World.component_id(), "json": json.dumps(fields)}]]})
    with pytest.raises(UserError, match=r"world was saved as a .*World that this version doesn't take \(gravity"):
        checkpoint.read(path)


def test_a_newer_format_is_not_taken_for_damage(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 0, 1)
    content = json.loads((path / "tree.json").read_bytes())["checkpoint"]
    (path / "tree.json").write_bytes(seal(content | {"format": 99}))
    with pytest.raises(UserError, match="checkpoint format 99"):
        checkpoint.load(tmp_path)


def test_bad_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="step >= 0"):
        checkpoint.save(tmp_path, -1, {})
    with pytest.raises(ValueError, match="keep >= 1"):
        checkpoint.save(tmp_path, 1, {}, keep=0)


def test_a_component_may_hold_infinity(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 0, {"world": World(gravity=math.inf)})
    assert loaded(tmp_path)[1] == {"world": World(gravity=math.inf)}
