"""The command line: `metaloop <command>`.

Exit codes: 0 done; 1 a claim fails or a run broke; 2 the user's mistake; 130 Ctrl-C, with a checkpoint kept.
Modules here import nothing heavy before a command needs it: `metaloop list` loads neither torch nor pydantic.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from metaloop.cli import catalogue, comparing, creating, doctor, extending, guard, running, storage, verifying

app = typer.Typer(
    name="metaloop",
    cls=extending.Group,
    help="Meta-learning research: run papers, compose their parts, check their claims.",
    epilog="Exit codes: 0 done; 1 a claim fails or a run broke; 2 a mistake in the command; 130 Ctrl-C.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"metaloop {version('metaloop')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Meta-learning research: run papers, compose their parts, check their claims."""


app.command("list")(catalogue.show_list)
app.command("info")(catalogue.show_info)
app.command("run")(running.run)
app.command("resume")(running.resume)
app.command("verify")(verifying.verify)
app.command("compare")(comparing.compare)
app.command("new")(creating.new)
app.command("doctor")(doctor.doctor)
app.add_typer(storage.app, name="runs")


def main() -> None:
    """The console script."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(guard.INTERRUPTED)
