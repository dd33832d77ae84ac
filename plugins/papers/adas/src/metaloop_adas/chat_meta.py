"""A chat model as the meta agent (paper, section 4 and appendix: GPT-4o), with prompts of the paper's structure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

from metaloop import Key
from pydantic import Field

from metaloop_adas.archive import Agent, Entry, told
from metaloop_adas.chat import Chat, Message, json_object
from metaloop_adas.meta_agent import MetaAgent, Proposal

FRAMEWORK = resources.files("metaloop_adas").joinpath("framework.py").read_text()
DOMAINS = {
    "grid": "puzzles in the manner of the Abstraction and Reasoning Corpus: a rule has to be found from a few examples "
    "of grids and applied to another grid",
    "listfn": "puzzles in which a function from lists to lists has to be found from a few examples",
    "arith": "word problems of several steps whose answer is a number",
}
SYSTEM = (
    "You are an expert in machine learning who designs agentic systems: programs that solve tasks by calls of language "
    "models. Reply with one well-formed JSON object."
)
TASK = """# Aim
Design an agent for {domain}. The agents so far are in the archive below with their accuracy on validation questions.
Find one that is better, and that differs from those in an interesting way: think of related work, and of other fields.

# Framework
An agent is one Python function, `forward(self, taskInfo)`. It runs after this file's text and may use `LLMAgentBase`,
`Info` and the methods of `self` (an `AgentSystem`), and the standard library. `self.solution_field` is the name of the
field that holds a solution, "code" or "answer". A question may cost {budget} calls of LLMAgentBase: the call beyond
raises RuntimeError. Return `self.get_test_output_from_code(solution)`.

```python
{framework}
```

# Archive
{archive}

# Reply
{form}
"""
FORM = (
    'A JSON object with the fields "thought" (what insight the agent is built on, how it differs from those in the '
    'archive, and how it is implemented, step by step), "name" (a few words) and "code" (the source of forward).'
)
NEW = """Look at the proposed agent again.{last}
1. Is it new and interesting beside those in the archive? If not, think of another.
2. Is the implementation right? Look for mistakes, line by line.
3. How could it be better within its idea?
Reply with the same fields, and with "reflection", what you found."""
RIGHT = """Check the implementation again, by these mistakes that others made:
- A reply is taken for text: a module returns a list of Info, one for each field, in the order of output_fields.
- An Info is indexed or joined as text: its text is .content.
- Infos are packed in lists inside the list that a module is called with: that list has to be flat.
- Feedback is taken as text: run_examples_and_get_feedback returns (Info, passed examples, failed examples).
- Modules are called more often than a question may cost, or in loops without an end.
- More than one name is defined at the top level: everything has to be inside forward.
Reply with the same fields, with "reflection", and the mended code."""
FAILED = """The code fails when it is run:
{error}
Say what is wrong and mend it. Reply with the same fields, and with "debug_thought"."""


class ChatMetaAgent(MetaAgent):
    """Proposes by one chat: all entries of the archive, then reflection and debugging as further messages."""

    chat: Chat = Field(default=Chat(max_tokens=4096), description="the endpoint")
    temperature: float = Field(default=0.8, ge=0, le=2, description="of all its replies (paper: 0.8)")
    domain: str = Field(default="grid", description="what agents are for: grid, listfn, arith, or a description")

    def propose(self, archive: Sequence[Entry], budget: int, key: Key) -> Proposal:
        """A new agent, from all that is in the archive."""
        return self._asked(self._begun(archive, budget), _empty(), key)

    def reflect(self, proposal: Proposal, archive: Sequence[Entry], budget: int, round: int, key: Key) -> Proposal:
        """First whether it is new and right, then whether it makes known mistakes."""
        newest = archive[-1]
        last = f" The agent before it was:\n{_shown(newest)}" if newest["generation"] > 0 else ""
        asked = NEW.format(last=last) if round % 2 else RIGHT
        return self._asked([*self._begun(archive, budget), *_said(proposal, asked)], proposal, key)

    def debug(self, proposal: Proposal, error: str, archive: Sequence[Entry], budget: int, key: Key) -> Proposal:
        """Mend it by what it raised."""
        asked = FAILED.format(error=error[-4000:])
        return self._asked([*self._begun(archive, budget), *_said(proposal, asked)], proposal, key)

    def _begun(self, archive: Sequence[Entry], budget: int) -> list[Message]:
        task = TASK.format(
            domain=DOMAINS.get(self.domain, self.domain),
            budget=budget,
            framework=FRAMEWORK,
            archive="\n".join(_shown(entry) for entry in archive),
            form=FORM,
        )
        return [Message(role="system", content=SYSTEM), Message(role="user", content=task)]

    def _asked(self, messages: Sequence[Message], before: Proposal, key: Key) -> Proposal:
        """The agent of a reply; what a reply does not have stays as it was."""
        reply = json_object(self.chat.complete(messages, self.temperature, key.seed()).text)
        held: Any = {name: reply[name] for name in ("name", "thought", "code") if isinstance(reply.get(name), str)}
        return Proposal(Agent(**{**before.agent, **held, "blocks": None}))


def _empty() -> Proposal:
    return Proposal(Agent(name="nameless", thought="", code="", blocks=None))


def _said(proposal: Proposal, asked: str) -> list[Message]:
    agent = {name: proposal.agent[name] for name in ("thought", "name", "code")}
    return [Message(role="assistant", content=json.dumps(agent)), Message(role="user", content=asked)]


def _shown(entry: Entry) -> str:
    """An entry as the meta agent reads it."""
    agent = entry["agent"]
    shown = {"thought": agent["thought"], "name": agent["name"], "code": agent["code"]}
    return json.dumps({**shown, "fitness": told(entry["fitness"]), "generation": entry["generation"] or "initial"})
