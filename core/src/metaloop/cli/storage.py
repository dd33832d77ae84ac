"""`metaloop runs`: what is stored, and how to free the disk."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Annotated

import typer

from metaloop.cli import options, output
from metaloop.cli.guard import guarded
from metaloop.errors import UserError

app = typer.Typer(help="List, remove and prune stored runs.", no_args_is_help=True)


@app.command("list")
@guarded
def list_stored(as_json: options.Json = False, runs: options.Runs = None) -> None:
    """List the stored runs, newest first, with the disk that they use."""
    from metaloop.housekeeping import disk_use
    from metaloop.store import list_runs, runs_root

    stored = list_runs(runs)
    sizes = [disk_use(run) for run in stored]
    if as_json:
        rows = [
            {"run": run.id, "path": str(run.path), "status": run.status, "bytes": size}
            | {name: run.info.get(name) for name in ("name", "kind", "created", "seed", "summary")}
            for run, size in zip(stored, sizes, strict=True)
        ]
        output.print_json({"runs": rows, "broken": {str(path): why for path, why in stored.broken.items()}})
        return
    caption = f"{output.count(len(stored), 'run')}, {output.size(sum(sizes))} in {runs or runs_root()}"
    table = output.table("run", "kind", "status", "created", "disk", caption=caption)
    table.columns[-1].justify = "right"
    for run, size in zip(stored, sizes, strict=True):
        created = datetime.fromisoformat(run.info["created"])
        output.row(table, run.id, run.info["kind"], run.status, f"{created:%Y-%m-%d %H:%M}", output.size(size))
    for path, why in stored.broken.items():
        output.row(table, path.name, "", f"can't be read: {why}", "", "", style="red")
    output.console().print(table)


@app.command("rm")
@guarded
def remove_stored(
    names: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs to remove.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    runs: options.Runs = None,
) -> None:
    """Remove runs and the runs inside them."""
    from metaloop.housekeeping import disk_use, remove
    from metaloop.store import Run

    found = list({run.path: run for run in (Run.open(name, runs) for name in names)}.values())
    freed = sum(map(disk_use, found))
    if not yes:
        if not sys.stdin.isatty():
            raise UserError("There is no terminal to ask on: say --yes to remove runs.")
        typer.confirm(f"Remove {', '.join(run.id for run in found)} ({output.size(freed)})?", abort=True)
    for run in found:
        remove(run)
    output.say(f"removed {output.count(len(found), 'run')}, {output.size(freed)}")


@app.command("prune")
@guarded
def prune_stored(
    keep: Annotated[int, typer.Option("--keep", min=0, help="Never remove the newest so many runs.")] = 10,
    dry: Annotated[bool, typer.Option("--dry", help="Only say what would be removed.")] = False,
    as_json: options.Json = False,
    runs: options.Runs = None,
) -> None:
    """Remove runs that left nothing, and all checkpoints but the last of finished runs; no result is lost."""
    from metaloop.housekeeping import prune

    pruned = prune(runs, keep_last=keep, dry=dry)
    if as_json:
        gone = {"runs": [run.id for run in pruned.runs], "checkpoints": list(map(str, pruned.checkpoints))}
        output.print_json({**gone, "leftovers": list(map(str, pruned.leftovers)), "bytes": pruned.freed, "dry": dry})
        return
    for run in pruned.runs:
        output.console().print(run.id, soft_wrap=True)
    found = {"run": len(pruned.runs), "checkpoint": len(pruned.checkpoints), "leftover": len(pruned.leftovers)}
    counts = ", ".join(output.count(n, what) for what, n in found.items())
    output.say(f"{'would remove' if dry else 'removed'} {counts}: {output.size(pruned.freed)}")
