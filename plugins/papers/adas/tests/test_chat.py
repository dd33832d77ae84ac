"""Chat models against a real HTTP server that speaks the OpenAI protocol."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from metaloop import Experiment, Key, UserError
from metaloop.engine import Engine
from metaloop.store import Run
from metaloop_adas import judging
from metaloop_adas.chat import BudgetSpent, Chat, Message, json_object
from metaloop_adas.chat_meta import ChatMetaAgent
from metaloop_adas.chat_model import ChatModel
from metaloop_adas.learner import AgentSystem
from metaloop_adas.search import ArchiveSearch
from metaloop_adas.seeds import seeds
from metaloop_adas.tasks import Puzzles

pytest.importorskip("openai")

TRANSPOSE = "def transform(value):\n    return [list(row) for row in zip(*value)]"
HELLO = [Message(role="user", content="hello")]


class Endpoint(ThreadingHTTPServer):
    """Answers what it is told to; the first `failures` requests with `status`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[dict[str, Any]] = []
        self.failures, self.status = 0, 429
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append({**body, "path": self.path, "key": self.headers["Authorization"]})
            failing = self.server.failures > 0
            self.server.failures -= failing
        if failing:
            self.send_response(self.server.status)
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")
            return
        text = json.dumps(self.reply(body["messages"]))
        found = {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        }
        data = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def reply(self, messages: list[dict[str, str]]) -> dict[str, Any]:
        if "who designs agentic systems" in messages[0]["content"]:
            code = seeds()[1]["code"]
            return {"thought": "ask more often", "name": f"found after {len(messages)} messages", "code": code}
        return {"thinking": "a transposition", "code": TRANSPOSE, "confidence": 0.9, "answer": "7"}

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def chat(endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Chat:
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key")
    return Chat(base_url=endpoint.url, model="tiny", transcript=str(tmp_path / "transcript.jsonl"))


def test_a_request_is_sent_once_and_then_replayed_without_the_network(chat: Chat, endpoint: Endpoint) -> None:
    first = chat.complete(HELLO, 0.5, 1)
    assert (first.prompt_tokens, first.completion_tokens) == (10, 5)
    sent = endpoint.requests[0]
    assert (sent["path"], sent["model"], sent["temperature"]) == ("/v1/chat/completions", "tiny", 0.5)
    assert sent["response_format"] == {"type": "json_object"}
    assert sent["key"] == "Bearer secret-key"
    assert chat.complete(HELLO, 0.5, 1) == first
    assert len(endpoint.requests) == 1
    chat.complete(HELLO, 0.5, 2)  # another seed is another request
    assert len(endpoint.requests) == 2
    endpoint.shutdown()
    assert chat.but(replay=True).complete(HELLO, 0.5, 1) == first
    with pytest.raises(UserError, match="no reply to this request"):
        chat.but(replay=True).complete(HELLO, 0.5, 3)
    assert "secret-key" not in Path(chat.transcript).read_text()


def test_what_passes_by_itself_is_tried_again(chat: Chat, endpoint: Endpoint) -> None:
    endpoint.failures = 2
    assert chat.complete(HELLO, 0.5, 1).text
    assert len(endpoint.requests) == 3
    endpoint.failures, endpoint.status = 1, 400
    with pytest.raises(UserError, match="refuses a request"):
        chat.complete(HELLO, 0.5, 2)


@pytest.mark.parametrize(
    "budget", [{"token_budget": 120}, {"money_budget": 120e-6, "prompt_price": 1.0, "completion_price": 1.0}]
)
def test_the_budget_stops_before_it_is_exceeded_and_also_in_another_process(
    chat: Chat, endpoint: Endpoint, budget: dict[str, Any]
) -> None:
    tight = chat.but(max_tokens=50, **budget)  # at most 21 + 50 for a request, 15 in truth
    for i in range(4):
        tight.complete(HELLO, 0.5, i)
    with pytest.raises(BudgetSpent, match=r"_budget: .* might be exceeded"):
        tight.complete(HELLO, 0.5, 4)  # 60 are spent
    assert len(endpoint.requests) == 4
    from metaloop_adas.chat import Book

    Book._open.clear()  # as a process does that begins
    with pytest.raises(BudgetSpent):
        tight.complete(HELLO, 0.5, 99)
    assert tight.complete(HELLO, 0.5, 0).text  # what is in the transcript costs nothing


def test_the_rate_is_kept(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("metaloop_adas.chat.time.sleep", slept.append)
    monkeypatch.setattr("metaloop_adas.chat.time.monotonic", lambda: 100.0)
    slow = chat.but(requests_per_minute=30.0)
    for i in range(3):
        slow.complete(HELLO, 0.5, i)
    assert slept == [0.0, 2.0, 4.0]


def test_a_transcript_that_is_none_is_refused(chat: Chat) -> None:
    Path(chat.transcript).write_text("{}\n")
    with pytest.raises(UserError, match=r"line 1 of .* is no reply"):
        chat.complete(HELLO, 0.5, 1)


def test_solutions_of_a_chat_model_run_in_the_sandbox(chat: Chat, endpoint: Endpoint) -> None:
    task = {
        "domain": "grid",
        "rule": "transpose",
        "train": [{"input": [[1, 2]], "output": [[1], [2]]}, {"input": [[3], [4]], "output": [[3, 4]]}],
        "test": {"input": [[5, 6], [7, 8]], "output": [[5, 7], [6, 8]]},
        "text": "",
    }
    story = {**task, "domain": "arith", "train": [], "test": {"input": [], "output": 7}, "text": "How many?"}
    learner = AgentSystem(model=ChatModel(chat=chat))
    for question in (task, story):
        out = Engine(learner).live(seeds()[2], [question], Key.of(0).split(1))
        assert out.fitness.tolist() == [1.0], out.info
    asked = endpoint.requests[0]["messages"]
    assert '"code": Python source of one function, transform(value)' in asked[0]["content"]
    assert "input: [[5, 6], [7, 8]]" in asked[1]["content"]
    assert "[[5, 7], [6, 8]]" not in json.dumps(asked)  # the answer is not told
    assert out.metrics["calls"].tolist() == [4.0]  # a story has no examples that would stop the refinement


def search(chat: Chat) -> Experiment:
    return Experiment(
        tasks=Puzzles(count=3),
        learner=AgentSystem(model=ChatModel(chat=chat)),
        meta_optimizer=ArchiveSearch(
            meta_agent=ChatMetaAgent(chat=chat), samples=100, seeds=("Chain of thought",), attempts=1
        ),
        steps=2,
        task_batch=None,
        device="cpu",
    )


def test_a_search_by_chat_models_asks_as_the_paper_does_and_replays(
    chat: Chat, endpoint: Endpoint, tmp_path: Path
) -> None:
    result = search(chat).run(root=tmp_path, quiet=True)
    asked = [r for r in endpoint.requests if "who designs agentic systems" in r["messages"][0]["content"]]
    first, second, third = asked[:3]
    assert [len(r["messages"]) for r in (first, second, third)] == [2, 4, 4]
    assert first["temperature"] == 0.8
    for part in ("class LLMAgentBase", "95% Bootstrap Confidence Interval", "Chain of thought", "12 calls"):
        assert part in first["messages"][1]["content"]
    assert "Is it new and interesting" in second["messages"][3]["content"]
    assert "mistakes that others made" in third["messages"][3]["content"]
    before = len(endpoint.requests)
    again = search(chat.but(replay=True)).run(root=tmp_path, quiet=True)
    assert len(endpoint.requests) == before
    assert again.progress.meta == result.progress.meta


def test_a_search_that_the_budget_stopped_goes_on_when_it_is_raised(
    chat: Chat, endpoint: Endpoint, tmp_path: Path
) -> None:
    whole = search(chat).run(root=tmp_path / "whole", quiet=True)
    needed = len(endpoint.requests)
    prompts = [sum(len(m["content"].encode()) + 16 for m in r["messages"]) for r in endpoint.requests]
    first, second = max(sorted(prompts)[-6:-3]), max(prompts)  # the second generation's prompts have one agent more
    tight = search(chat.but(token_budget=(first + second) // 2 + chat.max_tokens)).but(checkpoint_every=1)
    Path(chat.transcript).unlink()
    endpoint.requests.clear()
    with pytest.raises(BudgetSpent):
        tight.run(root=tmp_path / "tight", quiet=True)
    assert 0 < len(endpoint.requests) < needed
    (folder,) = (tmp_path / "tight").iterdir()
    resumed = search(chat).but(checkpoint_every=1).run(run=Run(folder), quiet=True)
    assert resumed.progress.meta == whole.progress.meta
    assert len(endpoint.requests) == needed  # nothing was paid twice


def test_json_is_found_in_a_fence() -> None:
    assert json_object('```json\n{"code": "a"}\n```') == {"code": "a"}
    assert json_object("nothing") == json_object("[1]") == {}


def test_sets_are_read_from_arc_files(tmp_path: Path) -> None:
    from metaloop.errors import DataError
    from metaloop_adas.tasks import ArcFiles

    pair = {"input": [[1, 2]], "output": [[2, 1]]}
    for i in range(3):
        (tmp_path / f"{i}.json").write_text(json.dumps({"train": [pair], "test": [pair]}))
    (tmp_path / "large.json").write_text(json.dumps({"train": [{"input": [[0] * 9], "output": [[0]]}], "test": [pair]}))
    one, other = (judging.whole(ArcFiles(folder=str(tmp_path), count=1, part=p), Key.of(0)) for p in (0, 1))
    assert one[0]["train"] == [pair]
    assert one[0]["rule"] != other[0]["rule"]
    with pytest.raises(DataError, match="3 ARC tasks of at most 5 x 5 cells, and 4 are needed"):
        judging.whole(ArcFiles(folder=str(tmp_path), count=2, part=1), Key.of(0))
    (tmp_path / "bad.json").write_text("[]")
    with pytest.raises(DataError, match="no ARC task"):
        judging.whole(ArcFiles(folder=str(tmp_path), count=1), Key.of(0))
