"""A chat model as the foundation model of agents' modules (paper: GPT-3.5)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from metaloop_adas.chat import Chat, Message, json_object
from metaloop_adas.domain import Task
from metaloop_adas.model import FoundationModel, Language, Request

FORMATS = {
    "code": "Python source of one function, transform(value), that turns every example's input into its output. Use "
    "the standard library only. Write nothing but the source.",
    "answer": "The answer alone: a number, a list or a word.",
    "confidence": "How sure you are, from 0.00 to 1.00.",
}
"""What a reply's fields hold; others hold what they are called."""


class ChatModel(FoundationModel):
    """Every request is one chat: the role as the system's message, then infos and instruction; fields as JSON."""

    waits: ClassVar[bool] = True

    chat: Chat = Field(default=Chat(), description="the endpoint")

    def language(self, domain: str) -> Language:
        """Python where there are examples to try it on; word problems are answered in words."""
        return "words" if domain == "arith" else "python"

    def describe(self, task: Task) -> str:
        """The examples and the test's input, or the story."""
        if not task["train"]:
            return str(task["text"])
        shown = [
            f"Example {i}\ninput: {json.dumps(pair['input'])}\noutput: {json.dumps(pair['output'])}"
            for i, pair in enumerate(task["train"], start=1)
        ]
        asked = f"Test\ninput: {json.dumps(task['test']['input'])}"
        return "\n\n".join(("Find the rule that turns each input into its output, and apply it.", *shown, asked))

    def sessions(self, tasks: Sequence[Task], seeds: Sequence[int]) -> Sequence[ChatSession]:
        """A conversation for each task."""
        return [ChatSession(self.chat, seed) for seed in seeds]


@dataclass
class ChatSession:
    """The chats about one task; the seed of each is named by the task's and its number."""

    chat: Chat
    seed: int
    asked: int = 0

    def query(self, request: Request) -> dict[str, str]:
        """One chat; fields that the reply does not have are empty."""
        seed = int(np.random.SeedSequence([self.seed, self.asked]).generate_state(1)[0])
        self.asked += 1
        wanted = request["fields"]
        form = "\n".join(f'"{name}": {FORMATS.get(name, f"Your {name}.")}' for name in wanted)
        system = f"You are a {request['role']}.\nReply with one JSON object that has exactly these fields:\n{form}"
        told = [
            f"# {name} by {author}{f' (round {number + 1})' if number >= 0 else ''}:\n{content}"
            for name, author, content, number in request["infos"]
        ]
        messages = [
            Message(role="system", content=system),
            Message(role="user", content="\n\n".join((*told, str(request["instruction"])))),
        ]
        reply = json_object(self.chat.complete(messages, float(request["temperature"]), seed).text)
        return {name: _text(reply.get(name)) for name in wanted}

    def runs(self, codes: Sequence[str]) -> dict[str, Any]:
        """Nothing: solutions run in the sandbox, beside the agent."""
        return {}


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
