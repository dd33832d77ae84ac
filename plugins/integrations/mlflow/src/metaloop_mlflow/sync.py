"""`metaloop sync`: sends to MLflow what it does not have yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
from metaloop import disk
from metaloop.cli import options, output
from metaloop.cli.guard import Broke, guarded
from metaloop.errors import UserError
from metaloop.show import Bar
from metaloop.store import Run, list_runs, runs_root

from metaloop_mlflow import addresses
from metaloop_mlflow.finding import LOCK, family, outermost
from metaloop_mlflow.locking import held
from metaloop_mlflow.mirror import short

if TYPE_CHECKING:
    from metaloop_mlflow.copying import Sent
    from metaloop_mlflow.server import Server

_SENT, _COMPLETE, _IN_USE = "sent", "was complete", "in use: left alone"


class _Row(NamedTuple):
    run: str
    rows: int
    files: int
    state: str


@guarded
def sync(
    run_id: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN]", help="A run's id, the beginning of it, its folder, or 'last'; all.", show_default=False
        ),
    ] = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
    runs: options.Runs = None,
    tracking_uri: options.TrackingUri = None,
    traceback: options.Traceback = False,
) -> None:
    """Send to MLflow what it does not have yet, of one run or of all."""
    root = runs or runs_root()
    chosen = [outermost(Run.open(run_id, root))] if run_id else list_runs(root)[::-1]
    if not chosen:
        raise UserError(f"there are no runs in {root}")
    address = addresses.address(chosen[0].path.parent)
    if address is None:
        raise UserError("tracking is off (METALOOP_TRACKING_URI=off): unset it, or say where with --tracking-uri")
    rows: list[_Row] = []
    try:
        server = _server(address)
        with Bar("sync", len(chosen), quiet=quiet or as_json) as bar:
            for done, run in enumerate(chosen, start=1):
                rows.append(_synced(run, server))
                bar.at(done)
    except UserError:
        raise
    except Exception as error:
        whole = f" ({len(rows)} of {output.count(len(chosen), 'run')} done)" if rows else ""
        raise Broke(f"MLflow at {address.shown} does not take the runs: {short(error)}{whole}") from error
    _show(rows, address, quiet, as_json)


def _server(address: addresses.Address) -> Server:
    """MLflow, which takes seconds to import."""
    addresses.prepare()
    from metaloop_mlflow.server import Server

    return Server(address)


def _synced(run: Run, server: Server) -> _Row:
    """Send an outermost run and what is inside it, unless a process works on one of them."""
    from metaloop_mlflow.server import Deleted
    from metaloop_mlflow.tree import Tree

    if any(part.in_use for part, _ in family(run)):
        return _Row(run.id, 0, 0, _IN_USE)
    try:
        with held(run.path / LOCK, lambda: False):
            sent = Tree(run, server).catch_up(final=True)
    except disk.InUseError:
        return _Row(run.id, 0, 0, _IN_USE)
    except Deleted as error:
        return _Row(run.id, 0, 0, str(error))
    return _Row(run.id, sent.rows, sent.files, _SENT if _anything(sent) else _COMPLETE)


def _anything(sent: Sent) -> bool:
    return bool(sent.rows or sent.files)


def _show(rows: list[_Row], address: addresses.Address, quiet: bool, as_json: bool) -> None:
    if as_json:
        output.print_json({"tracking_uri": address.shown, "runs": [row._asdict() for row in rows]})
    elif not quiet:
        table = output.table("run", "rows sent", "files sent", "state", caption=f"MLflow at {address.shown}")
        for row in rows:
            output.row(table, row.run, output.number(row.rows), output.number(row.files), row.state)
        output.console().print(table)
