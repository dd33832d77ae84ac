"""Commands that plugins add to the command line; a plugin's code is imported when its command is used."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from metaloop import plugins
from metaloop.cli.guard import guarded
from metaloop.errors import UserError
from metaloop.manifest import Command
from metaloop.plugins import PluginRecord

ELSEWHERE = {"ui": "metaloop-mlflow", "sync": "metaloop-mlflow"}
"""Commands that people look for here, and the package that brings them."""


class Group(TyperGroup):
    """The core's commands, then those of plugins."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All names, for the help page."""
        own = super().list_commands(ctx)
        return [*own, *sorted(name for name in _offered() if name not in own)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The core's command of that name, else a plugin's."""
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        if found := _offered().get(cmd_name):
            return _command(*found)
        return _missing(cmd_name, ELSEWHERE[cmd_name]) if cmd_name in ELSEWHERE else None


def _offered() -> dict[str, tuple[Command, PluginRecord]]:
    """The commands of usable plugins; where two offer one name the first by plugin name has it."""
    found: dict[str, tuple[Command, PluginRecord]] = {}
    for record in plugins.discover():
        for command in record.plugin.commands if record.plugin else ():
            found.setdefault(command.name, (command, record))
    return found


def _command(command: Command, record: PluginRecord) -> Any:
    @guarded
    def unusable() -> None:
        plugins.load(command.target, record)

    try:
        function: Any = plugins.load(command.target, record)
    except Exception:  # told, as any error, when the command is used; the help page goes on
        function = unusable
    return _made(command.name, function, command.summary)


def _missing(name: str, package: str) -> Any:
    @guarded
    def absent() -> None:
        raise UserError(f"metaloop {name} comes with {package}: pip install {package}")

    return _made(name, absent, f"Comes with {package}.")


def _made(name: str, function: Any, summary: str) -> Any:
    """A function as a command, whichever click typer stands on."""
    alone = typer.Typer(add_completion=False)
    alone.command(name, short_help=summary or None, context_settings={"help_option_names": ["-h", "--help"]})(function)
    return typer.main.get_command(alone)
