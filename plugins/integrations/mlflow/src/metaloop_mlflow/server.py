"""An MLflow store, through MLflow's own client. Importing this module imports MLflow."""

from __future__ import annotations

import getpass
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from metaloop.errors import RunError
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_USER
from mlflow.utils.validation import MAX_METRICS_PER_BATCH, MAX_PARAMS_TAGS_PER_BATCH

from metaloop_mlflow.addresses import Address
from metaloop_mlflow.describing import RUN
from metaloop_mlflow.locking import held

_LOCK_SECONDS = 120.0
_KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Tells MLflow's pages to show an experiment as training, not as a chat application."""


class Deleted(RunError):  # noqa: N818
    """The user deleted it in MLflow."""


class Server:
    """A store that takes runs.

    Raises:
        MlflowException: it can't be reached, or does not take what it is given (all methods).
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        with _alone(address):  # two processes that make one SQLite store at once would break it
            self.client = MlflowClient(tracking_uri=address.uri)
            self.client.search_experiments(max_results=1)

    def experiment(self, name: str) -> str:
        """The id of the experiment of this name, made where there is none.

        Raises:
            Deleted: it was deleted.
        """
        found = self.client.get_experiment_by_name(name)
        if found is None:
            artifacts = self.address.artifacts
            try:
                return str(self.client.create_experiment(name, artifacts.as_uri() if artifacts else None, _KIND))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            found = self.client.get_experiment_by_name(name)  # another process was quicker
            assert found is not None
        if found.lifecycle_stage == "deleted":
            raise Deleted(f"the experiment {name!r} was deleted in MLflow: restore it there, or give runs another name")
        return str(found.experiment_id)

    def run(self, experiment_id: str, id: str, run_id: str | None = None) -> MlflowRun | None:
        """MLflow's run for a run of the run store: *run_id* where that still is it, else found by its tag.

        Raises:
            Deleted: it was deleted.
        """
        found = self._noted(run_id) if run_id else None
        if found is None or found.data.tags.get(RUN) != id:
            query = f"tags.`{RUN}` = '{id}'"
            matches = self.client.search_runs([experiment_id], query, ViewType.ALL, max_results=1)
            found = matches[0] if matches else None
        if found is not None and found.info.lifecycle_stage == "deleted":
            raise Deleted(f"run {id} was deleted in MLflow: restore it there to track it again")
        return found

    def _noted(self, run_id: str) -> MlflowRun | None:
        try:
            return self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None

    def create_run(
        self, experiment_id: str, name: str, start: int, tags: Mapping[str, str], parent: str | None
    ) -> MlflowRun:
        """Make a run; *start* in milliseconds, *parent* is the id of the run that it is inside of."""
        with_user = {MLFLOW_USER: _user(), **tags} | ({MLFLOW_PARENT_RUN_ID: parent} if parent else {})
        few = dict(list(with_user.items())[:MAX_PARAMS_TAGS_PER_BATCH])
        run = self.client.create_run(experiment_id, start, few, name)
        self.tag(run.info.run_id, {key: value for key, value in with_user.items() if key not in few})
        return run

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags."""
        for some in _batches([RunTag(key, value) for key, value in tags.items()], MAX_PARAMS_TAGS_PER_BATCH):
            self.client.log_batch(run_id, tags=some)

    def parametrise(self, run_id: str, params: Mapping[str, str]) -> None:
        """Set params, which never change."""
        for some in _batches([Param(key, value) for key, value in params.items()], MAX_PARAMS_TAGS_PER_BATCH):
            self.client.log_batch(run_id, params=some)

    def log(self, run_id: str, metrics: Sequence[Metric]) -> None:
        """Add values of metrics."""
        for some in _batches(metrics, MAX_METRICS_PER_BATCH):
            self.client.log_batch(run_id, metrics=some)

    def metrics(self, run_id: str) -> set[str]:
        """The metrics that there are values of."""
        return set(self.client.get_run(run_id).data.metrics)

    def steps(self, run_id: str, key: str) -> set[int]:
        """The steps for which there are values of a metric."""
        return {metric.step for metric in self.client.get_metric_history(run_id, key)}

    def upload(self, run_id: str, file: Path, into: str | None) -> None:
        """Store a file as an artifact."""
        self.client.log_artifact(run_id, str(file), into)

    def write(self, run_id: str, text: str, name: str) -> None:
        """Store a text as an artifact."""
        self.client.log_text(run_id, text, name)

    def go_on(self, run_id: str) -> None:
        """A run goes on."""
        self.client.update_run(run_id, status="RUNNING")

    def end(self, run_id: str, status: str, when: int) -> None:
        """A run ended, at a time in milliseconds."""
        self.client.set_terminated(run_id, status, when)


def _batches(items: Sequence[object], size: int) -> Iterator[list]:  # type: ignore[type-arg]
    return (list(items[start : start + size]) for start in range(0, len(items), size))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"


@contextmanager
def _alone(address: Address) -> Iterator[None]:
    """Hold the artifact folder's lock while a store of our own is made; a server sees to itself."""
    if address.artifacts is None:
        yield
        return
    address.artifacts.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + _LOCK_SECONDS

    def patient() -> bool:
        time.sleep(0.1)
        return time.monotonic() < deadline

    with held(address.artifacts / ".lock", patient):
        yield
