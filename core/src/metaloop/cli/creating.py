"""`metaloop new`: a plugin package to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metaloop.cli import output
from metaloop.cli.guard import guarded


@guarded
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The plugin's name, as in my-tasks.", show_default=False)],
    kind: Annotated[
        str, typer.Option("--kind", metavar="KIND", help="tasks, learner, meta-optimizer or paper.", show_default=False)
    ],
    into: Annotated[
        Path | None, typer.Option("--into", metavar="DIR", help="Where to put it; by default here.", show_default=False)
    ] = None,
) -> None:
    """Write a plugin package to begin with: it installs, runs and passes its tests as it is."""
    from metaloop import scaffold

    folder = scaffold.create(name, kind, into or Path())
    output.console().print(
        f"{folder}: a plugin that works, to be changed into yours. Next:\n"
        f"  cd {folder}\n"
        f"  pip install -e '.[test]'\n"
        f"  pytest\n"
        f"  metaloop run {name}",
        soft_wrap=True,
        markup=False,
    )
