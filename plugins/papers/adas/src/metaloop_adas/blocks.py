"""Agents as typed building blocks, and the source text that they are written as.

Every block makes a pool of candidate solutions. `written` turns a tree of blocks into the source of
`forward(self, taskInfo)`, which runs in the sandbox as any agent does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TEMPERATURES = (0.1, 0.3, 0.5, 0.7, 1.0)
COUNTS = tuple(range(1, 13))
ROUNDS = tuple(range(1, 12))


@dataclass(frozen=True)
class Block:
    """A building block, with what it works on."""

    kind: str
    options: tuple[tuple[str, Any], ...] = ()
    inputs: tuple[Block, ...] = ()

    def __getitem__(self, name: str) -> Any:
        """The value of an option."""
        return dict(self.options)[name]

    def to_json(self) -> list[Any]:
        """`[kind, options, inputs]`."""
        return [self.kind, dict(self.options), [block.to_json() for block in self.inputs]]

    @classmethod
    def from_json(cls, value: Sequence[Any]) -> Block:
        """The reverse of `to_json`."""
        kind, options, inputs = value
        return make(kind, *(cls.from_json(block) for block in inputs), **options)

    def walk(self, path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], Block]]:
        """Every block with the way to it, the root first."""
        yield path, self
        for i, block in enumerate(self.inputs):
            yield from block.walk((*path, i))

    def at(self, path: Sequence[int]) -> Block:
        """The block at the end of a way."""
        return self.inputs[path[0]].at(path[1:]) if path else self

    def put(self, path: Sequence[int], block: Block) -> Block:
        """The tree with another block at the end of a way."""
        if not path:
            return block
        inputs = list(self.inputs)
        inputs[path[0]] = inputs[path[0]].put(path[1:], block)
        return Block(self.kind, self.options, tuple(inputs))

    def but(self, **options: Any) -> Block:
        """The block with some options changed."""
        return Block(self.kind, tuple({**dict(self.options), **options}.items()), self.inputs)

    @property
    def count(self) -> int:
        """How many blocks there are."""
        return 1 + sum(block.count for block in self.inputs)


@dataclass(frozen=True)
class Kind:
    """What is known of a kind of block."""

    inputs: int
    options: Mapping[str, tuple[Any, ...]]
    calls: Callable[[Block, Sequence[int]], int]
    """The most calls that it makes itself, of the sizes of its inputs."""
    size: Callable[[Block, Sequence[int]], int]
    """The most candidates that it gives."""
    write: Callable[[Block, str, Sequence[str]], str]
    """Its source, of the name of its pool and those of its inputs; a branch's second input stands at `{otherwise}`."""


def make(kind: str, *inputs: Block, **options: Any) -> Block:
    """A block; options that are left out have their first value.

    Raises:
        ValueError: there is no such kind or option, or it has another number of inputs.
    """
    known = KINDS.get(kind)
    if known is None or len(inputs) != known.inputs or not set(options) <= set(known.options):
        raise ValueError(f"there is no block {kind!r} with {len(inputs)} inputs and the options {sorted(options)}")
    return Block(kind, tuple((name, options.get(name, values[0])) for name, values in known.options.items()), inputs)


def calls(block: Block) -> int:
    """The most calls of the foundation model that an agent makes for one question."""
    sizes = [size(inner) for inner in block.inputs]
    return KINDS[block.kind].calls(block, sizes) + sum(calls(inner) for inner in block.inputs)


def size(block: Block) -> int:
    """The most candidates that a block gives."""
    return KINDS[block.kind].size(block, [size(inner) for inner in block.inputs])


CAREFUL = " Think step by step."
FIELDS = '["thinking", "confidence", self.solution_field]'
PASSED = "len(self.run_examples_and_get_feedback({c}[-1])[1])"


def _style(block: Block) -> str:
    return CAREFUL if block["careful"] else ""


def _attempts(pool: str, n: int, role: str, block: Block, infos: str) -> str:
    return f"""{pool} = []
for i in range({n}):
    solver = LLMAgentBase({FIELDS}, "Solver", role={role}, temperature={block["temperature"]})
    {pool}.append(solver({infos}, "Solve the task.{_style(block)}", i))
"""


def _sample(block: Block, pool: str, inputs: Sequence[str]) -> str:
    return _attempts(pool, block["n"], '"Helpful Assistant"', block, "[taskInfo]")


def _panel(block: Block, pool: str, inputs: Sequence[str]) -> str:
    role = 'f"expert on {self.experts[i % len(self.experts)]}"'
    return _attempts(pool, block["n"], role, block, "[taskInfo]")


def _step_back(block: Block, pool: str, inputs: Sequence[str]) -> str:
    asked = "What is the principle behind this task? Abstract it before anything is solved. Think step by step."
    return (
        f'principle = LLMAgentBase(["thinking", "principle"], "Principle", temperature={block["temperature"]})\n'
        f'known = principle([taskInfo], "{asked}")\n'
        + _attempts(pool, block["n"], '"Helpful Assistant"', block, "[taskInfo, *known]")
    )


def _route(block: Block, pool: str, inputs: Sequence[str]) -> str:
    return (
        f'router = LLMAgentBase(["choice"], "Router", temperature={block["temperature"]})\n'
        'chosen = router([taskInfo], f"Choose who should solve this task: an expert on {self.experts}.")[0].content\n'
        + _attempts(pool, block["n"], 'f"expert on {chosen}"', block, "[taskInfo]")
    )


def _vary(block: Block, pool: str, inputs: Sequence[str]) -> str:
    seen = "*c, self.run_examples_and_get_feedback(c[-1])[0]" if block["feedback"] else "*c"
    told = seen.split(", ")
    flat = f"[info for c in {pool} for info in ({', '.join(told)},)]"
    return f"""{pool} = list({inputs[0]})
for i in range({block["n"]}):
    seeker = LLMAgentBase({FIELDS}, "Seeker", temperature={block["temperature"]})
    tried = {flat}
    {pool}.append(seeker([taskInfo, *tried], "Given the attempts so far, try something new.{_style(block)}", i))
"""


def _refine(block: Block, pool: str, inputs: Sequence[str]) -> str:
    return f"""{pool} = list({inputs[0]})
for i in range({block["rounds"]}):
    if any(self.examples and not self.run_examples_and_get_feedback(c[-1])[2] for c in {pool}):
        break
    refiner = LLMAgentBase({FIELDS}, "Refiner", temperature={block["temperature"]})
    tried = [info for c in reversed({pool}) for info in (*c, self.run_examples_and_get_feedback(c[-1])[0])]
    {pool}.insert(0, refiner([taskInfo, *tried], "Go over the feedback. Improve on the best.{_style(block)}", i))
"""


def _debate(block: Block, pool: str, inputs: Sequence[str]) -> str:
    asked = "Take the solutions of other agents as advice and give an updated one."
    return f"""{pool} = list({inputs[0]})
for i in range({block["rounds"]}):
    for j in range(len({pool})):
        role = f"expert on {{self.experts[j % len(self.experts)]}}"
        debater = LLMAgentBase({FIELDS}, "Debater", role=role, temperature={block["temperature"]})
        heard = [info for k, c in enumerate({pool}) if k != j for info in c] + list({pool}[j])
        {pool}[j] = debater([taskInfo, *heard], "{asked}{_style(block)}", i)
"""


def _filter(block: Block, pool: str, inputs: Sequence[str]) -> str:
    return f"""most = max(({PASSED.format(c="c")} for c in {inputs[0]}), default=0)
{pool} = [c for c in {inputs[0]} if {PASSED.format(c="c")} == most]
"""


def _rank(block: Block, pool: str, inputs: Sequence[str]) -> str:
    return f"{pool} = sorted({inputs[0]}, key=lambda c: -{PASSED.format(c='c')})[:{block['keep']}]\n"


def _trust(block: Block, pool: str, inputs: Sequence[str]) -> str:
    return f"""{pool} = sorted({inputs[0]}, key=lambda c: c[1].content, reverse=True)[:{block["keep"]}]
"""


def _vote(block: Block, pool: str, inputs: Sequence[str]) -> str:
    return f"""answers = [str(self.get_test_output_from_code(c[-1]).content) for c in {inputs[0]}]
votes = [answers.count(a) if a not in ("None", "") else 0 for a in answers]
{pool} = [{inputs[0]}[votes.index(max(votes))]] if votes else []
"""


def _judge(block: Block, pool: str, inputs: Sequence[str]) -> str:
    return f"""judge = LLMAgentBase({FIELDS}, "Judge", temperature={block["temperature"]})
seen = [info for c in {inputs[0]} for info in c]
{pool} = [judge([taskInfo, *seen], "Given all the above solutions, reason over them and give a final answer.")]
"""


def _union(block: Block, pool: str, inputs: Sequence[str]) -> str:
    return f"{pool} = {inputs[0]} + {inputs[1]}\n"


def _branch(block: Block, pool: str, inputs: Sequence[str]) -> str:
    if block["on"] == "examples":
        sure = "self.examples and not self.run_examples_and_get_feedback(c[-1])[2]"
    else:
        sure = f'c[1].content >= "{block["on"]}"'
    return f"""{pool} = list({inputs[0]})
if not any({sure} for c in {pool}):
{{otherwise}}
    {pool} = {pool} + {inputs[1]}
"""


_DRAW: dict[str, tuple[Any, ...]] = {"n": COUNTS, "temperature": TEMPERATURES, "careful": (True, False)}
_TALK: dict[str, tuple[Any, ...]] = {"rounds": ROUNDS, "temperature": TEMPERATURES, "careful": (True, False)}

KINDS: dict[str, Kind] = {
    "sample": Kind(0, _DRAW, lambda b, _: b["n"], lambda b, _: b["n"], _sample),
    "panel": Kind(0, _DRAW, lambda b, _: b["n"], lambda b, _: b["n"], _panel),
    "step_back": Kind(0, _DRAW, lambda b, _: b["n"] + 1, lambda b, _: b["n"], _step_back),
    "route": Kind(0, _DRAW, lambda b, _: b["n"] + 1, lambda b, _: b["n"], _route),
    "vary": Kind(
        1, {**_DRAW, "feedback": (False, True)}, lambda b, _: b["n"], lambda b, sizes: sizes[0] + b["n"], _vary
    ),
    "refine": Kind(1, _TALK, lambda b, _: b["rounds"], lambda b, sizes: sizes[0] + b["rounds"], _refine),
    "debate": Kind(1, _TALK, lambda b, sizes: b["rounds"] * sizes[0], lambda _, sizes: sizes[0], _debate),
    "filter": Kind(1, {}, lambda *_: 0, lambda _, sizes: sizes[0], _filter),
    "rank": Kind(1, {"keep": (1, 2, 3, 4)}, lambda *_: 0, lambda b, sizes: min(b["keep"], sizes[0]), _rank),
    "trust": Kind(1, {"keep": (1, 2, 3, 4)}, lambda *_: 0, lambda b, sizes: min(b["keep"], sizes[0]), _trust),
    "vote": Kind(1, {}, lambda *_: 0, lambda *_: 1, _vote),
    "judge": Kind(1, {"temperature": TEMPERATURES}, lambda *_: 1, lambda *_: 1, _judge),
    "union": Kind(2, {}, lambda *_: 0, lambda _, sizes: sum(sizes), _union),
    "branch": Kind(2, {"on": ("examples", "0.75", "0.90")}, lambda *_: 0, lambda _, sizes: sum(sizes), _branch),
}
"""Draws; what adds to a pool; what selects from it; what joins two. `vary` keeps what was tried and avoids it."""


def written(block: Block) -> str:
    """The source of an agent: one function, `forward(self, taskInfo)`."""
    lines, pool = _lines(block, [0])
    body = [*lines, f"return self.get_test_output_from_code({pool}[0][-1]) if {pool} else None"]
    return "def forward(self, taskInfo):\n" + "".join(f"    {line}\n" for line in body)


def _lines(block: Block, used: list[int]) -> tuple[list[str], str]:
    parts = [_lines(inner, used) for inner in block.inputs]
    used[0] += 1
    pool = f"pool_{used[0]}"
    own = KINDS[block.kind].write(block, pool, [name for _, name in parts]).splitlines()
    if block.kind == "branch":
        at = own.index("{otherwise}")
        own[at : at + 1] = [f"    {line}" for line in parts[1][0]]
        return [*parts[0][0], *own], pool
    return [*(line for lines, _ in parts for line in lines), *own], pool
