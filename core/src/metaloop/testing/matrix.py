"""The matrix of compositions, tried and written down: `python -m metaloop.testing.matrix --page matrix.md`.

It tries all pairs of tasks and learner that fit, each with a meta-optimizer that fits (the learner's own loop is one),
and as many more as it takes for every two parts that fit to have met. `--full` tries the whole product, `--plugin NAME`
only what that plugin has a part in. Exit code 1 where a composition is not sound or a refusal has no reason.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from metaloop import tracking
from metaloop.testing.compositions import Composition, Examples, Tried, try_all

OWN_LOOP = "its own loop"

_HEAD = """# What fits what

Written by `nox -s cross`: every installed part's tiny `example()` beside every other's. A part says by its `check` what
it fits; what it does not fit is refused when the experiment is built, with the reasons below. Of what fits, enough is
tried for every two parts to meet. Examples have sizes of their own: a part set otherwise may fit more.
"""


def main(words: Sequence[str] | None = None) -> int:
    """Try, write, and say what is not sound."""
    given = _parser().parse_args(words)
    os.environ[tracking.VARIABLE] = tracking.OFF
    examples = Examples.installed()
    chosen = examples.fits.product() if given.full else examples.fits.cover()
    if given.plugin:
        chosen = [composition for composition in chosen if composition.concerns(given.plugin)]
    tried = try_all(examples, chosen, tell=_tell)
    faults = {**examples.fits.faults, **{named(t.composition): t.fault for t in tried if t.fault is not None}}
    if given.page:
        given.page.write_text(page(examples, tried, faults))
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        rows = [{**t.composition._asdict(), "fault": t.fault, "seconds": round(t.seconds, 3)} for t in tried]
        given.json.write_text(json.dumps({"tried": rows, "faults": faults, "absent": examples.absent}, indent=1))
    for what, why in faults.items():
        print(f"{what}: {why}")
    print(f"{len(tried)} compositions tried; {len(faults)} faults")
    return 1 if faults else 0


def named(composition: Composition) -> str:
    """The parts, joined."""
    return " + ".join([composition.tasks, composition.learner, composition.meta_optimizer or OWN_LOOP])


def page(examples: Examples, tried: Sequence[Tried], faults: Mapping[str, str]) -> str:
    """The matrix as a page of Markdown; the same parts give the same page."""
    fits = examples.fits
    counts = f"{len(examples.tasks)} task families, {len(examples.learners)} learners and "
    counts += f"{len(examples.meta_optimizers)} meta-optimizers make {len(fits.product())} compositions that fit."
    sound = sum(t.fault is None for t in tried)
    result = (
        f"{counts} {len(tried)} were tried, two steps each, stopped and resumed between them: {sound} ended with the "
        "bits of a run that was not stopped."
    )
    learners = ((tasks, _list(b for a, b in fits.inner if a == tasks)) for tasks in examples.tasks)
    metas = ((learner, _list(b for a, b in fits.outer if a == learner)) for learner in examples.learners)
    sections = [
        f"{_HEAD}\n{result}\n",
        *(["## Not sound\n", _table(("what", "why"), faults.items())] if faults else []),
        *(["## Not made here\n", _table(("part", "why"), examples.absent.items())] if examples.absent else []),
        "## Tasks and the learners that fit\n",
        _table(("tasks", "learners"), learners),
        "## Learners and the meta-optimizers that fit\n",
        _table(("learner", "meta-optimizers"), metas),
        "## Refused: tasks\n",
        _table(("learner", "tasks", "reason"), _refused_tasks(examples)),
        "## Refused: meta-optimizers\n",
        _table(("learner", "meta-optimizers", "reason"), _refused_metas(examples)),
    ]
    return "\n".join(sections)


def _refused_tasks(examples: Examples) -> Iterator[tuple[str, str, str]]:
    groups: dict[tuple[str, str], list[str]] = {}
    for (tasks, learner), why in examples.fits.refusals.items():
        if learner in examples.learners:
            groups.setdefault((learner, why), []).append(tasks)
    yield from ((learner, _list(ids), why) for (learner, why), ids in sorted(groups.items()))


def _refused_metas(examples: Examples) -> Iterator[tuple[str, str, str]]:
    """Those that differ in nothing but who refuses are one row."""
    groups: dict[tuple[str, str], list[str]] = {}
    for (learner, meta), why in examples.fits.refusals.items():
        if meta in examples.meta_optimizers:
            said = why.replace(type(examples.meta_optimizers[meta]).__name__, "it", 1)
            groups.setdefault((learner, said), []).append(meta)
    yield from ((learner, _list(ids), why) for (learner, why), ids in sorted(groups.items()))


def _list(ids: Iterable[str]) -> str:
    return ", ".join(ids) or "-"


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _tell(tried: Tried) -> None:
    if sys.stderr.isatty() or tried.fault is not None:
        print(f"{named(tried.composition)}: {tried.fault or 'sound'}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m metaloop.testing.matrix", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--full", action="store_true", help="the whole product")
    parser.add_argument("--plugin", help="only compositions that this plugin has a part in")
    parser.add_argument("--page", type=Path, help="where to write the page")
    parser.add_argument("--json", type=Path, help="where to write what was tried, with times")
    return parser


if __name__ == "__main__":
    sys.exit(main())
