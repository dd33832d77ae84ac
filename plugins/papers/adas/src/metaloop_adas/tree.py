"""The archive as one HTML file: who came from whom, with which accuracy; readable by itself, light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from metaloop_adas.archive import Entry, best, mean, told

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 1080, 460, 56, 24, 24, 44
STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --faint: #8b949e; --line: #c8ced6;
  --seed: #8250df; --found: #0969da; --best: #cf222e; --panel: #f4f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ed; --paper: #12161b; --faint: #8b949e; --line: #3a424c;
    --seed: #bc8cff; --found: #58a6ff; --best: #ff7b72; --panel: #1b2129; } }
body { background: var(--paper); color: var(--ink); font: 14px/1.45 system-ui, sans-serif; margin: 24px auto;
  max-width: 1120px; padding: 0 16px; }
svg { width: 100%; height: auto; } svg text { fill: var(--ink); font-size: 11px; } .faint { fill: var(--faint); }
.axis { stroke: var(--line); } .edge { stroke: var(--line); fill: none; } .run { stroke: var(--best); fill: none;
  stroke-width: 1.5; stroke-dasharray: 5 4; } .line { stroke: var(--best); fill: none; stroke-width: 2; }
.seed { fill: var(--seed); } .found { fill: var(--found); } .best { fill: var(--best); }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: 4px 8px; vertical-align: top;
  border-top: 1px solid var(--line); } td.number { text-align: right; font-variant-numeric: tabular-nums; }
pre { background: var(--panel); padding: 10px; overflow-x: auto; font-size: 12px; } summary { cursor: pointer; }
"""


def page(archive: Sequence[Entry], title: str, tests: Mapping[int, float] | None = None) -> str:
    """The file's text. `tests` holds test accuracies by row of the archive, where they were measured."""
    tests = tests or {}
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f"<h1>{escape(title)}</h1><p>Every dot is an agent: hand-designed ones at the left, found ones by generation. "
        "Lines lead from parents to children; the red ones to the agent with the best validation accuracy. The dashed "
        "line is the best so far.</p>"
        f"{_picture(archive)}{_table(archive, tests)}</body></html>\n"
    )


def ancestors(archive: Sequence[Entry], row: int) -> set[int]:
    """An agent, its parents, theirs, and so on."""
    found, left = set[int](), [row]
    while left:
        now = left.pop()
        if now not in found:
            found.add(now)
            left += archive[now]["parents"]
    return found


def _picture(archive: Sequence[Entry]) -> str:
    last = max(1, *(entry["generation"] for entry in archive))
    top = max(0.05, *(mean(entry) for entry in archive)) * 1.08
    seeds = [i for i, entry in enumerate(archive) if entry["generation"] == 0]

    def place(i: int) -> tuple[float, float]:
        entry = archive[i]
        shift = (seeds.index(i) - len(seeds)) / (len(seeds) + 1) if i in seeds else 0.0
        x = LEFT + 50 + 44 * shift + (WIDTH - LEFT - RIGHT - 50) * entry["generation"] / last
        return x, HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * mean(entry) / top

    def high(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top

    champion, spots = best(archive), [place(i) for i in range(len(archive))]
    line = ancestors(archive, champion)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="the archive\'s tree">']
    for k in range(5):
        y = high(top * k / 4)
        parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="faint" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{25 * top * k:.0f}%</text>')
    for i, entry in enumerate(archive):
        for parent in entry["parents"]:
            (x0, y0), (x1, y1) = spots[parent], spots[i]
            bend, kind = (x0 + x1) / 2, "line" if i in line and parent in line else "edge"
            curve = f"M{x0:.1f},{y0:.1f} C{bend:.1f},{y0:.1f} {bend:.1f},{y1:.1f} {x1:.1f},{y1:.1f}"
            parts.append(f'<path class="{kind}" d="{curve}"/>')
    steps: list[tuple[float, float]] = []
    highest = 0.0
    for i in sorted(range(len(archive)), key=lambda i: spots[i][0]):
        if mean(archive[i]) > highest:
            steps += [(spots[i][0], high(highest)), (spots[i][0], high(mean(archive[i])))] if steps else [spots[i]]
            highest = mean(archive[i])
    steps.append((WIDTH - RIGHT, high(highest)))
    parts.append(f'<polyline class="run" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in steps)}"/>')
    for i, entry in enumerate(archive):
        kind = "best" if i == champion else "seed" if entry["generation"] == 0 else "found"
        said = f"{entry['agent']['name']}\n{told(entry['fitness'])}\n{entry['agent']['thought']}"
        x, y = spots[i]
        size = 7 if i == champion else 5
        parts.append(
            f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{size}"><title>{escape(said)}</title></circle>'
        )
    middle = (LEFT + WIDTH) / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 10}" text-anchor="middle">generation (0: hand-designed) to {last}</text>'
    )
    parts.append(f'<text x="8" y="{TOP - 8}">validation accuracy</text></svg>')
    return "".join(parts)


def _table(archive: Sequence[Entry], tests: Mapping[int, float]) -> str:
    rows = []
    for i in sorted(range(len(archive)), key=lambda i: -mean(archive[i])):
        entry, agent = archive[i], archive[i]["agent"]
        fitness = entry["fitness"]
        numbers = (
            str(entry["generation"]),
            f"{100 * mean(entry):.1f} ({100 * fitness['low']:.1f} to {100 * fitness['high']:.1f})",
            f"{100 * tests[i]:.1f}" if i in tests else "",
            f"{entry['calls']:.1f}",
        )
        cells = "".join(f'<td class="number">{cell}</td>' for cell in numbers)
        code = f"<details><summary>{escape(agent['name'])}</summary><p>{escape(agent['thought'])}</p>"
        rows.append(f"<tr><td>{code}<pre>{escape(agent['code'])}</pre></details></td>{cells}</tr>")
    heads = ("agent", "generation", "validation, % (95% interval)", "test, %", "calls")
    return f"<table><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>{''.join(rows)}</table>"
