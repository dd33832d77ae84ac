"""A chat model behind one interface: any OpenAI-compatible endpoint, with a budget and a transcript that replays."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self, TypedDict

from metaloop import Component
from metaloop.errors import RunError, UserError
from pydantic import Field

OVERHEAD = 16
"""Tokens that an endpoint adds to a message at most (roles, separators)."""


class BudgetSpent(RunError):  # noqa: N818
    """The next request could exceed the budget: it is not made. The run's last checkpoint is kept; it can go on."""


class Message(TypedDict):
    """One message of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


class Reply(NamedTuple):
    """What came back, and what it cost."""

    text: str
    prompt_tokens: int
    completion_tokens: int


class Chat(Component):
    """One request, one reply.

    Every reply is a line of the transcript. A request that is in it is answered from it, without network and without
    cost: so a run that stopped goes on where it was, and with `replay` nothing is ever sent. Requests are told apart by
    all that is sent and by their seed. Spent is what the transcript says: delete it to begin anew.
    """

    base_url: str = Field(default="http://localhost:8000/v1", description="the endpoint (vLLM serves one here)")
    model: str = Field(default="gpt-3.5-turbo-0125", description="the model's name at the endpoint")
    key_from: str = Field(default="OPENAI_API_KEY", description="environment variable that holds the API key")
    transcript: str = Field(default="transcript.jsonl", description="file of all replies")
    replay: bool = Field(default=False, description="answer from the transcript only")
    json_mode: bool = Field(default=True, description="ask for JSON objects (response_format)")
    max_tokens: int = Field(default=1024, ge=1, description="longest reply (paper: 1024 agents, 4096 meta agent)")
    timeout: float = Field(default=120.0, gt=0, description="seconds that a reply may take")
    retries: int = Field(default=6, ge=0, description="times that a request is made again after 429, 5xx or no answer")
    requests_per_minute: float | None = Field(default=None, gt=0, description="rate limit; None: the endpoint's own")
    token_budget: int | None = Field(default=None, ge=1, description="tokens of the transcript at most")
    money_budget: float | None = Field(default=None, gt=0, description="cost of the transcript at most")
    prompt_price: float = Field(default=0.0, ge=0, description="cost of a million prompt tokens")
    completion_price: float = Field(default=0.0, ge=0, description="cost of a million reply tokens")

    @classmethod
    def example(cls) -> Self:
        """One that sends nothing."""
        return cls(replay=True)

    def complete(self, messages: Sequence[Message], temperature: float, seed: int) -> Reply:
        """The reply to a chat; equal requests of equal seeds have equal replies.

        Raises:
            BudgetSpent: it might cost more than is left.
            UserError: it is not in the transcript that is replayed; the endpoint refuses it; a package is missing.
        """
        body: dict[str, Any] = {
            "model": self.model,
            "messages": list(messages),
            "temperature": temperature,
            "max_tokens": self.max_tokens,
            "seed": seed % 2**31,
        }
        if self.json_mode:
            body["response_format"] = {"type": "json_object"}
        name = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        return self._book.reply(name, body, self)

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """What tokens cost."""
        return (prompt_tokens * self.prompt_price + completion_tokens * self.completion_price) / 1e6

    @property
    def _book(self) -> Book:
        return Book.of(Path(self.transcript))


class Book:
    """A transcript file, and what has been spent by it. All chats of a process that name the file share it."""

    _open: ClassVar[dict[Path, Book]] = {}
    _opening: ClassVar[threading.Lock] = threading.Lock()

    @classmethod
    def of(cls, path: Path) -> Book:
        """The book of a file; read anew where the file has gone."""
        with cls._opening:
            path = path.resolve()
            held = cls._open.get(path)
            if held is None or (held.replies and not path.exists()):
                held = cls._open[path] = cls(path)
            return held

    def __init__(self, path: Path) -> None:
        self.path, self.lock = path, threading.Lock()
        self.replies: dict[str, Reply] = {}
        self.tokens, self.money = 0, 0.0
        self.reserved: dict[str, tuple[int, float]] = {}
        self.clients: dict[Any, Any] = {}
        self.next_at = 0.0
        for number, line in enumerate(path.read_text().splitlines() if path.exists() else (), start=1):
            try:
                row = json.loads(line)
                self._keep(row["name"], Reply(row["text"], row["prompt_tokens"], row["completion_tokens"]), row["cost"])
            except (ValueError, LookupError, TypeError) as error:
                raise UserError(f"transcript: line {number} of {path} is no reply: remove it") from error

    def _keep(self, name: str, reply: Reply, cost: float) -> None:
        self.replies[name] = reply
        self.tokens += reply.prompt_tokens + reply.completion_tokens
        self.money += cost

    def reply(self, name: str, body: dict[str, Any], chat: Chat) -> Reply:
        """The stored reply to a request, or a new one, which is stored before it is used."""
        with self.lock:
            if name in self.replies:
                return self.replies[name]
            if chat.replay:
                raise UserError(f"replay: {self.path} has no reply to this request; with replay=false it would be sent")
            self._reserve(name, body, chat)
        try:
            self._wait(chat)
            reply = self._send(body, chat)
        finally:
            with self.lock:
                self.reserved.pop(name, None)  # an equal request may have been under way
        with self.lock:
            cost = chat.cost(reply.prompt_tokens, reply.completion_tokens)
            self._keep(name, reply, cost)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps({"name": name, **reply._asdict(), "cost": cost, "request": body}) + "\n")
        return reply

    def _reserve(self, name: str, body: dict[str, Any], chat: Chat) -> None:
        """Set aside the most that a request can cost."""
        prompt = most_tokens(body)
        held = prompt + chat.max_tokens, chat.cost(prompt, chat.max_tokens)
        tokens, money = (sum(column) for column in zip(held, *self.reserved.values(), strict=True))
        over = None
        if chat.token_budget is not None and self.tokens + tokens > chat.token_budget:
            over = f"token_budget: {chat.token_budget} tokens"
        if chat.money_budget is not None and self.money + money > chat.money_budget:
            over = f"money_budget: {chat.money_budget:g}"
        if over:
            raise BudgetSpent(
                f"{over} might be exceeded by the next request, so it was not made ({self.tokens} tokens, "
                f"{self.money:.4g} spent); raise it and resume the run to go on"
            )
        self.reserved[name] = held

    def _wait(self, chat: Chat) -> None:
        """Keep to the rate limit."""
        if chat.requests_per_minute is None:
            return
        with self.lock:
            at = max(self.next_at, time.monotonic())
            self.next_at = at + 60 / chat.requests_per_minute
        time.sleep(max(at - time.monotonic(), 0))

    def _send(self, body: dict[str, Any], chat: Chat) -> Reply:
        try:
            from openai import OpenAI, OpenAIError
        except ModuleNotFoundError as error:
            raise UserError("a chat endpoint needs the openai package: pip install 'metaloop-adas[api]'") from error
        about = chat.base_url, chat.key_from, chat.timeout, chat.retries
        if about not in self.clients:  # it waits and tries again as the endpoint says
            key = os.environ.get(chat.key_from) or "none"
            self.clients[about] = OpenAI(
                base_url=chat.base_url, api_key=key, timeout=chat.timeout, max_retries=chat.retries
            )
        try:
            found = self.clients[about].chat.completions.create(**body)
        except OpenAIError as error:
            raise UserError(f"base_url: {chat.base_url} refuses a request ({type(error).__name__}: {error})") from error
        text = (found.choices[0].message.content or "") if found.choices else ""
        if found.usage is None:  # then the most that it can be
            return Reply(text, most_tokens(body), chat.max_tokens)
        return Reply(text, found.usage.prompt_tokens, found.usage.completion_tokens)


def most_tokens(body: dict[str, Any]) -> int:
    """The most tokens that a request's messages can have: a token is a byte at least."""
    return sum(len(message["content"].encode()) + OVERHEAD for message in body["messages"])


def json_object(text: str) -> dict[str, Any]:
    """The JSON object of a reply; empty where there is none. A fence of Markdown around it is left out."""
    start, end = text.find("{"), text.rfind("}")
    try:
        found = json.loads(text[start : end + 1], strict=False)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
