"""Pipelines: stages see what came before, finished ones are not run again, and the rest resumes where it stopped."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from metaloop import Context, Experiment, Pipeline, Stage, plugins
from metaloop.errors import UserError
from metaloop.hooks import hookimpl
from metaloop.key import Key
from metaloop.manifest import Part, Plugin
from metaloop.outcome import Draw
from metaloop.result import Result, load
from metaloop.store import Run, list_runs
from metaloop.testing.toys import Climb, Words
from pydantic import ValidationError

from .parts import Levels

ran: list[str] = []


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    ran.clear()
    monkeypatch.setenv("METALOOP_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def climb(**changes: Any) -> Experiment:
    return Experiment(**({"tasks": Words(), "learner": Climb(steps=4), "task_batch": 2, "device": "cpu"} | changes))


class Compare(Stage):
    """Compares two earlier stages."""

    first: str = "one"
    second: str = "two"

    def run(self, context: Context) -> Mapping[str, Any]:
        ran.append(context.name)
        one, two = context.earlier(self.first), context.earlier(self.second)
        return {"difference": one.summary["fitness"] - two.summary["fitness"], "steps": one.progress.step}


class Later(Stage):
    """Has a field called function, which is none."""

    function: str = "sum"

    def run(self, context: Context) -> Mapping[str, Any]:
        ran.append(context.name)
        return {"of": context.results["compare"]["difference"], "how": self.function}


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    classes = {"compare": Compare, "later": Later}
    parts = tuple(Part(f"pipes/{name}", "stage", f"{cls.__module__}:{cls.__name__}") for name, cls in classes.items())
    from metaloop.testing import toys

    with plugins.registered(Plugin("pipes", "for tests", components=parts)), plugins.registered(toys.TOYS):
        yield


def whole() -> Pipeline:
    return Pipeline(
        name="whole",
        seed=5,
        device="cpu",
        stages={
            "one": climb(),
            "two": climb(learner=Climb(steps=2)),
            "compare": Compare(),
            "later": Later(function="max"),
        },
    )


def test_stages_see_earlier_results_in_order() -> None:
    result = whole().run(quiet=True)
    assert ran == ["compare", "later"]
    assert list(result.results) == ["one", "two", "compare", "later"]
    assert isinstance(result["one"], Result)
    difference = result["one"].summary["fitness"] - result["two"].summary["fitness"]
    assert result["compare"] == {"difference": difference, "steps": 4}
    assert result["later"] == {"of": difference, "how": "max"}
    assert result.summary["later"] == result["later"]
    assert result.summary["one"] == result["one"].summary
    assert [run.name for run in result.run.children()] == ["one", "two", "compare", "later"]
    assert {run.status for run in [result.run, *result.run.children()]} == {"finished"}


def test_a_stage_that_asks_for_no_earlier_experiment_is_told_which_there_are() -> None:
    wrong = Pipeline(stages={"one": climb(), "compare": Compare(second="twoo")}, device="cpu")
    with pytest.raises(UserError, match=r"compare: 'twoo' is no experiment before this stage; there are: one$"):
        wrong.run(quiet=True)


def test_the_pipelines_seed_and_device_hold_for_every_stage() -> None:
    seen: list[Context] = []

    def look(context: Context) -> dict[str, Any]:
        seen.append(context)
        return {"draw": context.key.uniform().item()}

    result = Pipeline(stages={"one": climb(), "look": look, "more": look}, seed=5, device="cpu").run(quiet=True)
    assert (result["one"].experiment.seed, result["one"].experiment.device) == (5, "cpu")
    assert [(context.seed, context.device.type) for context in seen] == [(5, "cpu")] * 2
    assert result["look"] != result["more"]  # each stage has randomness of its own
    assert result["look"]["draw"] == Key.of(5).fold("stage", "look").uniform().item()
    alone = climb(seed=5).run(quiet=True)
    assert alone.summary["fitness"] == result["one"].summary["fitness"]
    with pytest.raises(UserError, match=r"stages\.one\.seed: a pipeline has one seed"):
        Pipeline(stages={"one": climb(seed=3)}, seed=5)


def test_a_finished_pipeline_is_not_run_again() -> None:
    first = whole().run(quiet=True)
    files = {path: path.read_bytes() for path in first.path.rglob("metrics.jsonl")}
    ran.clear()
    again = whole().run(run=first.run, quiet=True)
    assert ran == []
    assert again.summary == first.summary
    assert {path: path.read_bytes() for path in first.path.rglob("metrics.jsonl")} == files
    assert again["one"].history == first["one"].history
    assert again["compare"] == first["compare"]


def test_a_stage_that_crashed_is_run_again_and_those_before_it_are_not() -> None:
    crash = [True]

    def first(context: Context) -> dict[str, Any]:
        ran.append("first")
        return {"x": (1, 2)}

    def second(context: Context) -> dict[str, Any]:
        ran.append("second")
        if crash[0]:
            raise ZeroDivisionError("no luck")
        return {"y": context.results["first"]["x"]}

    pipeline = Pipeline(stages={"first": first, "second": second, "third": lambda context: {"z": 3}}, device="cpu")
    with pytest.raises(ZeroDivisionError):
        pipeline.run(quiet=True)
    run = list_runs()[0]
    assert run.status == "failed"
    assert "no luck" in run.info["summary"]["error"]
    assert [(child.name, child.status) for child in run.children()] == [("first", "finished"), ("second", "failed")]
    crash[0] = False
    result = pipeline.run(run=run, quiet=True)
    assert ran == ["first", "second", "second"]
    assert result["second"] == {"y": [1, 2]}  # as it is stored: the same when it comes from the disk
    assert run.status == "finished"
    assert not (run.path / "error.txt").exists()


class Breaks(Climb):
    """Fails at its third step, once."""

    def step_one(self, theta: Any, state: Any, task: Any, clock: Any, key: Key) -> Any:
        if int(clock.step) == 2 and "broken" not in ran:
            ran.append("broken")
            raise ZeroDivisionError
        return super().step_one(theta, state, task, clock, key)


def test_an_experiment_inside_resumes_at_its_own_step() -> None:
    steps: list[int] = []

    class Watch:
        @hookimpl
        def steps_ended(self, run: Run, rows: Any) -> None:
            steps.extend(row["step"] for row in rows)

    pipeline = Pipeline(
        stages={"one": climb(learner=Breaks(steps=4), checkpoint_every=1), "two": climb()}, device="cpu"
    )
    with pytest.raises(ZeroDivisionError):
        pipeline.run(quiet=True, hooks=[Watch()])
    result = pipeline.run(run=list_runs()[0], quiet=True, hooks=[Watch()])
    assert steps == [1, 2, 3, 4, 1, 2, 3, 4]
    straight = climb(learner=Breaks(steps=4)).run(quiet=True)
    assert [row["loss"] for row in result["one"].history] == [row["loss"] for row in straight.history]


def test_experiments_inside_a_stage_are_loaded_or_resumed() -> None:
    crash = [True]

    def study(context: Context) -> dict[str, Any]:
        losses = []
        for width in (1, 2, 3):
            if width == 3 and crash[0]:
                raise ZeroDivisionError
            result = context.experiment(f"width-{width}", climb(tasks=Words(letters=width)))
            assert result.experiment.seed == 7
            losses.append(result.summary["loss"])
        return {"losses": losses}

    pipeline = Pipeline(stages={"study": study}, seed=7, device="cpu")
    with pytest.raises(ZeroDivisionError):
        pipeline.run(quiet=True)
    run = list_runs()[0]
    made = run.children()[0].children()
    assert [child.name for child in made] == ["width-1", "width-2"]
    before = [child.info["updated"] for child in made]
    crash[0] = False
    result = pipeline.run(run=run, quiet=True)
    made = run.children()[0].children()
    assert [child.name for child in made] == ["width-1", "width-2", "width-3"]
    assert [child.info["updated"] for child in made[:2]] == before  # loaded, not run
    assert load(made[2]).summary["loss"] == result["study"]["losses"][2]
    assert made[2].id == f"{run.id}/study/width-3"


def test_one_name_is_one_experiment() -> None:
    """The second would be given the first one's result."""

    def study(context: Context) -> dict[str, Any]:
        context.experiment("fit", climb(tasks=Words(letters=1)))
        context.experiment("fit", climb(tasks=Words(letters=2)))
        return {}

    with pytest.raises(UserError, match=r"fit was begun with tasks\.letters=1, and now it is 2"):
        Pipeline(stages={"study": study}, device="cpu").run(quiet=True)

    def names(context: Context) -> dict[str, Any]:
        context.experiment("fit/a", climb())
        context.experiment("fit-a", climb())
        return {}

    with pytest.raises(UserError, match=r"'fit-a' and 'fit/a' would share the folder"):
        Pipeline(stages={"names": names}, device="cpu").run(quiet=True)


def test_a_resumed_pipeline_with_other_settings_is_refused() -> None:
    run = whole().run(quiet=True).run
    changed = whole()
    for name, stage, message in (
        ("one", climb(learner=Climb(steps=9)), "learner.steps=4, and now it is 9"),
        ("compare", Compare(first="two", second="one"), "first='one', and now it is 'two'"),
    ):
        other = changed.but(stages={**changed.stages, name: stage})
        with pytest.raises(UserError, match=message):
            other.run(run=run, quiet=True)
    same = changed.but(stages={**changed.stages, "one": climb(checkpoint_every=1)})
    assert same.run(run=run, quiet=True).run.status == "finished"


def test_a_dump_loads_as_the_same_pipeline() -> None:
    pipeline = whole()
    dumped = json.loads(json.dumps(pipeline.model_dump(mode="json")))
    assert dumped["component"] == "pipeline"
    loaded = Pipeline.model_validate(dumped)
    assert loaded == pipeline
    assert list(loaded.stages) == ["one", "two", "compare", "later"]
    assert loaded.stages["later"] == Later(function="max")
    run = pipeline.run(quiet=True).run
    assert Pipeline.model_validate(run.config).run(run=run, quiet=True).run.status == "finished"
    with pytest.raises(UserError, match="load one of its parts"):
        load(run)


def test_a_function_runs_but_is_not_loaded() -> None:
    pipeline = Pipeline(stages={"f": lambda context: {"a": 1}, "g": functools.partial(plus, b=2)}, device="cpu")
    result = pipeline.run(quiet=True)
    assert (result["f"], result["g"]) == ({"a": 1}, {"a": 3})
    with pytest.raises(UserError, match=r"stages\.f: is a Python function: run the script"):
        Pipeline.model_validate(result.run.config)


def plus(context: Context, b: int) -> dict[str, Any]:
    return {"a": context.results["f"]["a"] + b}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "must return a mapping, not NoneType"),
        ([1], "must return a mapping, not list"),
        ({"x": object()}, "can't be stored: .*object"),
        ({(1, 2): 3}, "can't be stored: keys"),
    ],
)
def test_what_cannot_be_stored_is_refused(value: Any, message: str) -> None:
    with pytest.raises(UserError, match=f"stage 'bad'.*{message}"):
        Pipeline(stages={"bad": lambda context: value}, device="cpu").run(quiet=True)
    run = list_runs()[0]
    assert (run.status, run.children()[0].status, run.children()[0].result()) == ("failed", "failed", None)


def test_tensors_and_numbers_are_stored_as_json() -> None:
    value = {"t": torch.tensor([1.5, 2.0]), "n": torch.tensor(3), "path": Path("x"), "nested": {"a": (1, None)}}
    result = Pipeline(stages={"s": lambda context: value}, device="cpu").run(quiet=True)
    assert result["s"] == {"t": [1.5, 2.0], "n": 3, "path": "x", "nested": {"a": [1, None]}}


@pytest.mark.parametrize(
    ("stages", "error", "message"),
    [
        ({}, ValidationError, "must map names to stages"),
        ({"a": 3}, UserError, r"stages\.a: must be an Experiment, a Stage or a function, not int"),
        ({"a": Compare}, UserError, r"stages\.a: must be .* not the class Compare"),
        ({"a": {"steps": 3}}, UserError, r"stages\.a: must name its component"),
        ({"a": {"component": "pipes/nothing"}}, UserError, "pipes/nothing"),
        ({"a b": Compare()}, ValidationError, "'a b' is no name for a stage"),
        ({"../a": Compare()}, ValidationError, "is no name for a stage"),
        ({"a": {"component": "experiment", "stepz": 1}}, ValidationError, "stepz"),
    ],
)
def test_what_is_no_pipeline_is_refused_when_it_is_built(stages: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        Pipeline(stages=stages)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_device_that_is_not_there_is_refused_before_a_run_is_made(root: Path) -> None:
    with pytest.raises(UserError, match="device: 'cuda' can't be used here"):
        Pipeline(stages={"a": Compare()}, device="cuda").run(quiet=True)
    assert not root.exists()


def test_artifacts_are_the_pipelines_and_told_to_listeners() -> None:
    told: list[Path] = []

    class Hears:
        @hookimpl
        def artifact_saved(self, run: Run, path: Path) -> None:
            assert path.read_text() == "a picture"
            told.append(path)

    def draw(context: Context) -> dict[str, Any]:
        path = context.artifact("pictures/one.txt", lambda path: path.write_text("a picture"))
        return {"at": path.name}

    result = Pipeline(stages={"draw": draw}, device="cpu").run(quiet=True, hooks=[Hears()])
    assert result.run.artifacts() == told == [result.path / "artifacts" / "pictures" / "one.txt"]


def test_what_stages_show_comes_back_with_the_result() -> None:
    def show(context: Context) -> dict[str, Any]:
        total = sum(context.track([1, 2, 3], "adding"))
        total += sum(context.track(iter([4]), "adding", total=1))
        context.show(f"total {total}")
        return {}

    result = Pipeline(stages={"show": show, "again": show}, device="cpu").run(quiet=True)
    assert result.closing == ("total 10", "total 10")


def test_a_time_limit_stops_between_stages_and_inside_experiments() -> None:
    long = climb(learner=Climb(steps=6), checkpoint_every=100)
    pipeline = Pipeline(stages={"one": long, "two": climb(), "last": lambda context: {"a": 1}}, device="cpu")
    result = pipeline.run(quiet=True, max_seconds=0.0)
    assert result.run.status == "stopped"
    assert list(result.results) == []
    rounds = 0
    while result.run.status == "stopped":
        result = pipeline.run(run=result.run, quiet=True, max_seconds=0.02 * 2**rounds)  # enough for any machine, once
        rounds += 1
    assert result["last"] == {"a": 1}
    assert result["one"].summary["fitness"] == climb(learner=Climb(steps=6)).run(quiet=True).summary["fitness"]


def test_listeners_hear_of_the_pipeline_and_its_experiments() -> None:
    heard: list[tuple[str, str, str]] = []

    class Hears:
        @hookimpl
        def run_started(self, run: Run) -> None:
            heard.append(("started", run.name, ""))

        @hookimpl
        def run_ended(self, run: Run, status: str) -> None:
            heard.append(("ended", run.name, status))

    def stage(context: Context) -> dict[str, Any]:
        context.experiment("inner", climb(learner=Climb(steps=1)))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Pipeline(name="pipe", stages={"stage": stage}, device="cpu").run(quiet=True, hooks=[Hears()])
    assert heard == [
        ("started", "pipe", ""),
        ("started", "inner", ""),
        ("ended", "inner", "finished"),
        ("ended", "pipe", "interrupted"),
    ]


def test_a_curriculum_in_a_stage_keeps_its_state() -> None:
    """A stage may go on by hand from where an experiment ended."""

    def study(context: Context) -> dict[str, Any]:
        result = context.results["one"]
        more: Draw[Any] = result.experiment.tasks.sample(result.progress.family, 3, context.key)
        return {"levels": more.tag, "seen": len(result.progress.family["level"])}

    from .parts import Drift

    one = Experiment(tasks=Levels(), learner=Drift(), steps=5, task_batch=2, device="cpu")
    pipeline = Pipeline(stages={"one": one, "study": study}, device="cpu")
    result = pipeline.run(quiet=True)
    assert len(result["study"]["levels"]) == 3
    assert result["study"]["seen"] >= 2
