"""Compositions as documents: settings by path, run files, jobs, and the sentences for what is wrong."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from metaloop import Component, Experiment, Options, Pipeline, compose, yamltext
from metaloop.errors import Incompatible, PluginError, UnknownName, UserError
from metaloop.executors import ProcessPool
from metaloop.explain import explained
from metaloop.overrides import override, parse, parse_values, paths
from metaloop.pipeline import Stages
from metaloop.sweep import Sweep
from metaloop.testing.toys import Descent, Fit, Guess, Lines, NoisyDescent, Quadratics, Revisits
from pydantic import Field

pytestmark = pytest.mark.usefixtures("lab")


class Several(Component):
    """One field of every kind."""

    size: int | Literal["auto"] = "auto"
    widths: tuple[int, ...] = (3, 4)
    options: Options = Options(momentum=0.9)
    inner: Descent = Descent()
    outer: Descent | None = None
    word: str = Field("a", pattern="^a+$")
    needed: float = 1.0


@pytest.fixture
def experiment() -> Experiment:
    return Experiment(tasks=Quadratics(), learner=Descent(), steps=4)


@pytest.fixture
def pipeline(experiment: Experiment) -> Pipeline:
    lines = experiment.but(tasks=Lines(), learner=Fit())
    return Pipeline(stages={"bowls": experiment, "lines": lines})


def changed(thing: Any, *settings: str) -> Any:
    return override(thing, map(parse, settings))


def test_values_are_typed_by_yaml_and_validated(experiment: Experiment) -> None:
    new = changed(experiment, "learner.lr=1e-3", "tasks.dimension=5", "device=cpu", "compile=true", "eval_every=null")
    assert new == experiment.but(
        learner=Descent(lr=0.001), tasks=Quadratics(dimension=5), device="cpu", compile=True, eval_every=None
    )


@pytest.mark.parametrize(
    ("settings", "learner"),
    [
        (["learner=lab/noisydescent"], NoisyDescent()),
        (["learner=lab/noisydescent", "learner.noise=0.3"], NoisyDescent(noise=0.3)),
        (["learner={component: lab/noisydescent, steps: 7}", "learner.lr=1"], NoisyDescent(steps=7, lr=1.0)),
        (["learner={steps: 7, lr: 0.5}"], Descent(steps=7, lr=0.5)),
        (["learner.lr=0.5", "learner=lab/descent"], Descent()),
    ],
)
def test_a_component_is_set_by_id_by_mapping_or_in_part(
    experiment: Experiment, settings: list[str], learner: Descent
) -> None:
    assert changed(experiment, *settings).learner == learner


def test_changes_that_fit_only_together_are_judged_together(experiment: Experiment) -> None:
    assert changed(experiment, "learner=lab/fit", "tasks=lab/lines") == experiment.but(learner=Fit(), tasks=Lines())
    with pytest.raises(Incompatible, match="Fit draws lines"):
        changed(experiment, "learner=lab/fit")


def test_inside_tuples_options_and_nested_components() -> None:
    new = changed(Several(), "widths.1=9", "options.nesterov=true", "options.momentum=0.5", "inner.steps=8", "outer={}")
    assert (new.widths, dict(new.options), new.inner.steps) == ((3, 9), {"momentum": 0.5, "nesterov": True}, 8)
    assert new.outer == Descent()
    assert changed(Experiment(tasks=Revisits(), learner=Guess()), "tasks.inner.dimension=3").tasks.inner.dimension == 3


def test_instances_serve_as_values(experiment: Experiment) -> None:
    assert override(experiment, [("executor", ProcessPool(workers=3))]).executor == ProcessPool(workers=3)


def test_components_that_no_plugin_names_can_be_changed() -> None:
    assert changed(Several(), "needed=2").needed == 2.0


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("learner.stepz=3", "There is no setting 'learner.stepz'. Did you mean 'steps'?"),
        ("lr=3", "There is no setting 'lr'. Did you mean 'learner.lr'?"),
        ("learner.dimension=3", "no setting 'learner.dimension'. Did you mean 'tasks.dimension'? There are steps, lr."),
        ("learner.lr=-0.1", "learner.lr must be greater than 0, got -0.1."),
        ("learner.lr=quick", "learner.lr must be a number, got 'quick'."),
        ("steps=2.5", "steps must be a whole number, got 2.5."),
        ("precision=float16", "precision must be 'float32', 'float64' or 'bfloat16', got 'float16'."),
        ("meta_optimizer.lr=3", "meta_optimizer is None, so it has no 'lr' to set."),
        ("learner.lr.x=3", "learner.lr is 0.05, so it has no 'x' to set."),
        ("learner=lab/noisdescent", "No component is called 'lab/noisdescent'. Did you mean 'lab/noisydescent'?"),
        ("learner=lab/lines", "learner: 'lab/lines' is not a Learner."),
        ("learner={component: metaloop.testing.toys:Fit}", "No component is called 'metaloop.testing.toys:Fit'"),
        ("learner", "'learner' is not a setting: write path=value"),
        ("steps=", "'steps=' is not a setting: write path=value"),
        ("learner=[1,", "the value of learner can't be read as YAML"),
    ],
)
def test_a_wrong_setting_is_one_sentence(experiment: Experiment, setting: str, sentence: str) -> None:
    with pytest.raises(UserError) as error:
        changed(experiment, setting)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_a_field_of_several_types_names_them_all() -> None:
    with pytest.raises(UserError, match=r"^size must be a whole number or 'auto', got 'x'[.]$"), explained():
        Several(size="x")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"^net.widths.1 must be a whole number, got 'x'[.]$"), explained("net"):
        Several(widths=(1, "x"))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"^inner.lr must be greater than 0, got -1[.]$"), explained():
        Several(inner={"lr": -1})  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"^widths has 2 elements"):
        changed(Several(), "widths.2=1")


def test_a_path_in_a_pipeline_finds_its_stage(pipeline: Pipeline) -> None:
    assert changed(pipeline, "lines.learner.lr=0.7").stages["lines"].learner.lr == 0.7
    assert changed(pipeline, "stages.lines.learner.lr=0.7").stages["lines"].learner.lr == 0.7
    assert changed(pipeline, "tasks.shots=3").stages["lines"].tasks.shots == 3
    assert changed(pipeline, "seed=7").seed == 7


def test_a_stage_beside_experiments_is_set_without_its_name(lab: Path) -> None:
    thing = compose.from_job("lab/pipeline")
    assert changed(thing, "digits=5", "learner=lab/noisydescent", "learner.noise=0.5") == changed(
        thing, "table.digits=5", "train.learner={component: lab/noisydescent, noise: 0.5}"
    )


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("learner.lr=3", "'learner.lr' may be bowls.learner.lr or lines.learner.lr: write one of them."),
        ("bowls.learner.lr=-3", "bowls.learner.lr must be greater than 0, got -3."),
        ("bowls.learner.lrr=3", "There is no setting 'bowls.learner.lrr'. Did you mean 'lr'?"),
        ("bowl.learner.lr=3", "There is no setting 'bowl'. Did you mean 'bowls'?"),
    ],
)
def test_a_wrong_path_in_a_pipeline(pipeline: Pipeline, setting: str, sentence: str) -> None:
    with pytest.raises(UserError) as error:
        changed(pipeline, setting)
    assert str(error.value) == sentence


def test_every_path_can_be_set_to_what_it_is(pipeline: Pipeline) -> None:
    found = [path for path in paths(pipeline) if not path.endswith((".seed", ".device"))]
    assert "bowls.learner.lr" in found
    assert "seed" in found
    for path in found:
        value: Any = pipeline
        for name in path.split("."):
            stages = getattr(value, "stages", None)
            value = stages[name] if isinstance(stages, Stages) and name in stages else getattr(value, name)
        assert override(pipeline, [(path, value)]) == pipeline, path


def test_yaml_gives_back_an_equal_composition(experiment: Experiment, pipeline: Pipeline) -> None:
    sweep = Sweep(
        base=experiment,
        grid=Options({"learner.lr": (0.1, 1e-7), "tasks": ({"component": "lab/quadratics"},)}),
        seeds=(3, 5),
    )
    for thing in (experiment, pipeline, sweep, Sweep(base=pipeline), compose.from_job("lab/pipeline")):
        assert compose.from_document(yamltext.load(compose.to_yaml(thing), "it")) == thing


def test_yaml_says_every_default(experiment: Experiment) -> None:
    text = compose.to_yaml(experiment)
    assert all(f"\n{name}:" in text for name in Experiment.model_fields)


_plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text("aAeE+-.0159_: ~nyo", max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abe1.-", min_size=1, max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(_plain)
def test_plain_values_survive_yaml(value: Any) -> None:
    assert yamltext.load(yamltext.dump({"value": value}), "it") == {"value": value}


@pytest.mark.parametrize("text", ["1e-3", "1E5", "-2.e3", "+.5e2"])
def test_numbers_read_as_numbers(text: str) -> None:
    assert math.isclose(yamltext.load(text, "it"), float(text))
    assert yamltext.load(f"'{text}'", "it") == text


def run_file(folder: Path, experiment: Experiment, *changes: tuple[str, str]) -> Path:
    """A run file with parts of its text replaced."""
    text = compose.to_yaml(experiment)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


def test_a_file_may_name_a_component_by_id_alone(tmp_path: Path, experiment: Experiment) -> None:
    path = tmp_path / "short.yaml"
    path.write_text("component: experiment\ntasks: lab/quadratics\nlearner: lab/descent\nsteps: 4\n")
    assert compose.from_file(path) == experiment


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("lab/descent", "metaloop.testing.toys:Descent", "learner: 'metaloop.testing.toys:Descent' is not registered"),
        ("lab/descent", "lab/descend", "learner: No component is called 'lab/descend'. Did you mean 'lab/descent'?"),
        ("  component: lab/descent\n", "", "learner does not say which component it is"),
        ("component: experiment\n", "", "A run file says 'component: experiment'"),
        ("  lr: 0.05", "  rl: 0.05", "There is no field 'learner.rl'."),
        ("  lr: 0.05", "  lr: -0.05", "learner.lr must be greater than 0, got -0.05."),
        ("  lr: 0.05", "  lr: 0.05\n  lr: 0.06", "can't be read as YAML: 'lr' is there twice"),
        ("  lr: 0.05", "  lr: !!python/object/apply:os.getcwd []", "can't be read as YAML: could not determine"),
        ("seed: 0", "seed: [", "can't be read as YAML"),
    ],
)
def test_a_wrong_file_is_one_sentence_with_its_name(
    tmp_path: Path, experiment: Experiment, old: str, new: str, sentence: str
) -> None:
    path = run_file(tmp_path, experiment, (old, new))
    with pytest.raises(UserError) as error:
        compose.from_file(path)
    assert str(error.value).startswith(str(path))
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_a_function_in_a_pipeline_is_refused_in_files(experiment: Experiment) -> None:
    thing = Pipeline(stages={"say": lambda context: {}})
    with pytest.raises(UserError, match=r"stages.say: a Python function is not registered by a plugin"):
        compose.from_document(compose.to_document(thing))


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="can't be read: No such file"):
        compose.from_file(tmp_path / "no.yaml")


def test_jobs_are_made_for_a_profile() -> None:
    cpu, gpu = compose.from_job("lab"), compose.from_job("lab", "gpu")
    assert isinstance(cpu, Experiment)
    assert isinstance(gpu, Experiment)
    assert (cpu.steps, gpu.steps) == (6, 60)


@pytest.mark.parametrize(
    ("name", "profile", "error", "sentence"),
    [
        ("lap", None, UnknownName, "Did you mean 'lab'?"),
        ("lab/pipline", None, UnknownName, "Did you mean 'lab/pipeline'?"),
        ("lab/q", None, UnknownName, "Plugin 'lab' has lab, lab/pipeline"),
        ("lab", "tpu", UnknownName, "Job 'lab' has no profile 'tpu'; it has cpu, gpu."),
        ("lab/wrong", None, PluginError, "made a int, not an Experiment"),
    ],
)
def test_a_wrong_job_is_one_sentence(name: str, profile: str | None, error: type[UserError], sentence: str) -> None:
    with pytest.raises(error) as caught:
        compose.from_job(name, profile)
    assert sentence in str(caught.value)


def test_several_values_of_a_setting() -> None:
    assert parse_values("a.b=0.01,1e-1, x,{c: 1}") == ("a.b", (0.01, 0.1, "x", {"c": 1}))
