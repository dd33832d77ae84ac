"""Components: what pydantic does silently to frozen models must not happen to them."""

from __future__ import annotations

import collections
import copy
import json
import math
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Annotated, Any, Literal, Optional

import pytest
import torch
from metaloop import plugins, tree
from metaloop.component import Component, Options
from metaloop.errors import PluginError, UnknownName, UserError
from metaloop.manifest import Part, Plugin
from pydantic import Field, ValidationError
from torch import nn

built: list[str] = []


class Shape(Component):
    """A base class."""

    unit: str = "m"


class Circle(Shape):
    radius: float = Field(1.0, gt=0)


class Box(Shape):
    width: float = 1.0
    lid: Shape | None = None


class Net(Shape):
    width: int = 4

    @cached_property
    def module(self) -> nn.Module:
        built.append("module")
        return nn.Linear(1, self.width * 100)


class Deeper(Net):
    @cached_property
    def table(self) -> int:
        built.append("table")
        return self.width


class Drawing(Component):
    """Fields typed as the base class."""

    main: Shape = Shape()
    spare: Shape | None = None
    rest: tuple[Shape, ...] = ()
    options: Options = Options()
    pair: tuple[int, str] = (1, "a")
    kind: Literal["sketch", "plan"] = "sketch"
    scale: float = 1.0
    function: Callable[[float], float] | None = None


class Other(Component):
    """No shape."""


CLASSES = (Shape, Circle, Box, Net, Deeper, Drawing, Other)


def part(cls: type[Component]) -> Part:
    return Part(f"shapes/{cls.__name__.lower()}", "stage", f"{cls.__module__}:{cls.__qualname__}")


@pytest.fixture(autouse=True)
def shapes() -> Iterator[None]:
    built.clear()
    with plugins.registered(Plugin("shapes", "for tests", components=tuple(map(part, CLASSES)))):
        yield


def drawing() -> Drawing:
    """Every field away from its default, and deep."""
    return Drawing(
        main=Circle(radius=2.5, unit="cm"),
        spare=Box(width=3.0, lid=Box(lid=Circle(radius=0.1))),
        rest=(Circle(radius=7.0), Shape(unit="ft"), Net(width=9)),
        options=Options(betas=(0.9, 0.99), nested={"deep": [1, 2]}, name="adam"),
        pair=(3, "z"),
        kind="plan",
        scale=0.1,
    )


@pytest.mark.parametrize("mode", ["json", "python"])
def test_a_dump_loads_as_what_it_was(mode: Literal["json", "python"]) -> None:
    dumped = drawing().model_dump(mode=mode)
    assert dumped["main"] == {"component": "shapes/circle", "unit": "cm", "radius": 2.5}
    loaded = Drawing.model_validate(json.loads(json.dumps(dumped)) if mode == "json" else dumped)
    assert loaded == drawing()
    assert type(loaded.rest[2]) is Net
    assert isinstance(loaded.spare, Box)
    assert isinstance(loaded.spare.lid, Box)
    assert loaded.spare.lid.lid == Circle(radius=0.1)
    assert hash(loaded) == hash(drawing())


def test_a_dump_loads_through_json_text_and_through_the_base() -> None:
    assert Drawing.model_validate_json(drawing().model_dump_json()) == drawing()
    assert Shape.model_validate(Circle(radius=3.0).model_dump()) == Circle(radius=3.0)
    assert Component.model_validate(drawing().model_dump(mode="json")) == drawing()


def test_values_that_json_lacks_survive() -> None:
    for scale in (math.inf, -math.inf):
        one = Drawing(scale=scale)
        assert Drawing.model_validate_json(one.model_dump_json()) == one
        assert Drawing.model_validate(json.loads(json.dumps(one.model_dump(mode="json")))) == one


def test_a_part_given_without_its_id_is_the_fields_own_class() -> None:
    assert Drawing.model_validate({"main": {"unit": "in"}}).main == Shape(unit="in")
    with pytest.raises(ValidationError, match="radius"):
        Drawing.model_validate({"main": {"radius": 3}})


def test_a_misspelt_field_is_refused_at_any_depth() -> None:
    with pytest.raises(ValidationError, match="radios"):
        Circle.model_validate({"radios": 3})
    nested = {"main": {"component": "shapes/box", "lid": {"component": "shapes/circle", "radios": 3}}}
    with pytest.raises(ValidationError) as caught:
        Drawing.model_validate(nested)
    assert "radios" in str(caught.value)


def test_an_unknown_id_suggests_the_nearest() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'shapes/circle'"):
        Drawing.model_validate({"main": {"component": "shapes/cirle"}})


def test_a_component_of_another_kind_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"'shapes/other' is not a Shape"):
        Drawing.model_validate({"main": {"component": "shapes/other"}})
    with pytest.raises(ValidationError, match="'shapes/shape' is not a Circle"):
        Circle.model_validate({"component": "shapes/shape"})


def test_an_invalid_value_inside_a_part_names_its_place() -> None:
    with pytest.raises(ValidationError) as caught:
        Drawing.model_validate({"rest": [{"component": "shapes/circle"}, {"component": "shapes/circle", "radius": -1}]})
    assert caught.value.errors()[0]["loc"][:2] == ("rest", 1)


def test_a_class_that_no_plugin_names_is_dumped_but_not_loaded_by_name() -> None:
    class Hidden(Shape):
        pass

    dumped = Drawing(main=Hidden()).model_dump(mode="json")
    assert dumped["main"]["component"].endswith("Hidden")
    with pytest.raises((UnknownName, PluginError)):
        Drawing.model_validate(dumped)


def test_a_function_is_named_in_a_dump() -> None:
    names = {math.sqrt: "math:sqrt", part: f"{__name__}:part", partial(math.pow, 2.0): "functools:partial"}
    for function, name in names.items():
        assert Drawing(function=function).model_dump(mode="json")["function"] == name


def test_a_changed_copy_is_validated_and_has_its_own_cache() -> None:
    net = Net(width=4, unit="km")
    assert net.module.out_features == 400
    wide = net.but(width=8)
    assert (wide.width, wide.unit) == (8, "km")
    assert wide.module.out_features == 800
    with pytest.raises(ValidationError):
        net.but(width="eight")
    with pytest.raises(ValidationError):
        Circle().but(radius=-1.0)
    with pytest.raises(UserError, match="Net has no field 'widht'"):
        net.but(widht=8)
    with pytest.raises(TypeError, match="but"):
        net.model_copy(update={"width": 8})
    assert net.model_copy() == net


def test_a_pickle_carries_fields_only() -> None:
    net = Deeper(width=50)
    bare = len(pickle.dumps(net))
    assert net.module is not None
    assert net.table == 50
    assert len(pickle.dumps(net)) == bare < 1000
    back = pickle.loads(pickle.dumps(net))
    assert back == net
    assert "module" not in vars(back)
    assert back.module.out_features == 5000
    one = drawing()
    assert one.warmed
    assert pickle.loads(pickle.dumps(one)) == copy.deepcopy(one) == one


MUTABLE: list[Any] = [
    list,
    list[int],
    dict[str, int],
    set[int],
    bytearray,
    Optional[list[int]],  # noqa: UP045 (as people write it)
    list[int] | None,
    tuple[list[int], ...],
    tuple[int, dict[str, int]],
    Annotated[list[int], "note"],
    Mapping[str, int],
    Sequence[int],
    collections.abc.MutableMapping[str, int],
    collections.deque[int],
    collections.OrderedDict[str, int],
    collections.defaultdict[str, int],
]


@pytest.mark.parametrize("annotation", MUTABLE, ids=str)
def test_a_mutable_field_is_refused_when_the_class_is_defined(annotation: Any) -> None:
    with pytest.raises(TypeError, match=r"Bad\.field is a .* use a tuple, or metaloop\.Options"):
        type("Bad", (Component,), {"__annotations__": {"field": annotation}, "__module__": __name__})


FROZEN: list[Any] = [
    tuple[int, ...],
    frozenset[int],
    Options,
    str,
    Literal["list"],
    int | None,
    Shape | None,
    type[list],
    Callable[[list[int]], dict[str, int]],
    Any,
]


@pytest.mark.parametrize("annotation", FROZEN, ids=str)
def test_other_fields_are_accepted(annotation: Any) -> None:
    kind = type("Good", (Component,), {"__annotations__": {"field": annotation}, "__module__": __name__})
    assert issubclass(kind, Component)


def test_nothing_can_be_set() -> None:
    one = drawing()
    with pytest.raises(ValidationError):
        one.scale = 2.0  # type: ignore[misc]
    with pytest.raises(TypeError):
        one.options["name"] = "sgd"  # type: ignore[index]
    with pytest.raises(TypeError):
        one.options["nested"]["deep"] = ()
    assert one.options["nested"]["deep"] == (1, 2)


def test_equality_and_hash_go_by_fields_whatever_is_cached() -> None:
    one, twin = Net(width=3), Net(width=3)
    assert one.module is not None
    assert one == twin
    assert hash(one) == hash(twin)
    assert one != Net(width=4)
    assert Net(width=4) != Deeper(width=4)
    assert len({drawing(), drawing(), Drawing()}) == 2


def test_options_are_values() -> None:
    options = Options({"a": [1, {"b": 2}]}, items=3)
    assert options["a"] == (1, Options(b=2))
    assert dict(options) == {"a": (1, Options(b=2)), "items": 3}
    assert hash(options) == hash(Options(items=3, a=(1, {"b": 2})))
    assert options == Options(items=3, a=[1, {"b": 2}])
    assert options == {"a": (1, {"b": 2}), "items": 3}
    assert pickle.loads(pickle.dumps(options)) == copy.deepcopy(options) == options
    assert Drawing(options={"lr": 0.1}).options == Options(lr=0.1)  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        Drawing(options=[1])  # type: ignore[arg-type]


def test_warming_builds_every_cache_once_and_those_of_its_parts() -> None:
    one = Drawing(main=Net(), rest=(Deeper(), Deeper(width=6)), spare=Box(lid=Net(width=2)))
    assert one.warmed
    assert sorted(built) == ["module"] * 4 + ["table"] * 2
    assert one.warmed
    assert len(built) == 6


def test_the_default_of_a_field_is_validated_too() -> None:
    class Wrong(Component):
        width: int = "wide"  # type: ignore[assignment]

    with pytest.raises(ValidationError, match="width"):
        Wrong()


def test_a_tensor_is_no_field_of_a_run_file() -> None:
    class Holds(Component):
        value: Any = None

    with pytest.raises(Exception, match=r"Holds\.value can't be written to a run file: .*Tensor"):
        Holds(value=torch.ones(2)).model_dump(mode="json")


def test_a_component_in_a_tree_is_structure_and_passes_through_vmap() -> None:
    boxes = (Box(width=2.0), torch.arange(3.0))
    assert tree.length(boxes) == 3
    assert tree.index(boxes, 1)[0] == Box(width=2.0)
    grown = torch.func.vmap(lambda task: task[0].width * task[1])(boxes)
    assert grown.tolist() == [0.0, 2.0, 4.0]
    with pytest.raises(ValueError, match="Box"):
        tree.stack([boxes, (Box(width=3.0), torch.arange(3.0))])
