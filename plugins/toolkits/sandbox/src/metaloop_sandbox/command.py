"""`metaloop sandbox`: which mechanisms work here, and what each holds off."""

from __future__ import annotations

from metaloop.cli import options, output
from metaloop.cli.guard import guarded

from metaloop_sandbox.mechanism import MECHANISMS
from metaloop_sandbox.mechanisms import MEANING, Protection, probe


@guarded
def sandbox(as_json: options.Json = False) -> None:
    """Which mechanisms can run code that nobody has read here, strongest first, and what each leaves open."""
    found = {name: probe(name) for name in MECHANISMS}
    if as_json:
        output.print_json(
            {
                name: {"works": True, "layers": about.layers, "holds_off": about.holds_off}
                if isinstance(about, Protection)
                else {"works": False, "why": about}
                for name, about in found.items()
            }
        )
        return
    table = output.table("mechanism", "works", "not held off")
    for name, about in found.items():
        if isinstance(about, Protection):
            left = "; ".join(MEANING[threat] for threat in about.not_held_off)
            output.row(table, name, f"yes ({', '.join(about.layers)})", left or "kernel bugs, side channels")
        else:
            output.row(table, name, f"no: {about}", "", style="red")
    output.console().print(table)
