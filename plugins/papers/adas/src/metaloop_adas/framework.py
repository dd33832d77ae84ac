"""What agents are written against (paper, section 4). This file's text runs in the sandbox, before the agent.

It uses the standard library only. `AGENT` is the agent's source and `LANGUAGE` says what solutions are written in:
"steps" (the parent runs them), "python" (run here, as a function `transform`) or "words" (it is the answer).

Many lives run at the same time, each in a thread. When all of them wait, what they ask for goes to the parent's
function `serve` in one message: a call costs a share of one trip over the pipe, and a chat model gets all at once.
"""

# mypy: ignore-errors
import functools
import queue
import threading
import traceback
from collections import namedtuple

Info = namedtuple("Info", ["name", "author", "content", "iteration_idx"])
"""A message: what it is, who wrote it, its text, and the round it was written in (-1 for none)."""

AGENT, LANGUAGE = "", "steps"
_here = threading.local()
threading.stack_size(512 * 1024)


class LLMAgentBase:
    """A module around one call of the foundation model: a role, a temperature and the fields of its replies."""

    def __init__(self, output_fields, agent_name, role="Helpful Assistant", model=None, temperature=0.5):
        self.output_fields, self.agent_name = list(output_fields), agent_name
        self.role, self.model, self.temperature = role, model, temperature

    def query(self, input_infos, instruction, iteration_idx=-1):
        """One call: a list of `Info`, one for each field; '' where the reply does not have it."""
        reply = _here.life.parent(
            "ask",
            {
                "fields": self.output_fields,
                "role": self.role,
                "instruction": instruction,
                "temperature": self.temperature,
                "infos": [list(info) for info in input_infos if isinstance(info, Info)],
            },
        )
        author = f"{self.agent_name} ({self.role})"
        return [Info(name, author, str(reply.get(name, "")), iteration_idx) for name in self.output_fields]

    def __call__(self, input_infos, instruction, iteration_idx=-1):
        """As `query`."""
        return self.query(input_infos, instruction, iteration_idx)

    def __repr__(self):
        return f"{self.agent_name} ({self.role})"


class AgentSystem:
    """What `forward` gets as `self`: the task's examples and the tools that run solutions."""

    def __init__(self, task):
        self.examples, self.experts = task["train"], list(task["experts"])
        self.solution_field = "answer" if LANGUAGE == "words" else "code"
        self._test, self._tried = task["test"], {}

    def run_examples_and_get_feedback(self, code):
        """Run a solution on all examples: feedback as `Info`, the examples that it passes, and those it fails."""
        text = _content(code)
        if text not in self._tried:
            self._tried[text] = self._feedback(text)
        return self._tried[text]

    def _feedback(self, code):
        outputs, error = [None] * len(self.examples), ""
        if LANGUAGE == "steps":
            tried = _here.life.run_steps(code)
            passed, error = tried["passed"], tried["error"]
        elif LANGUAGE == "python":
            try:
                transform = _transform(code)
                outputs = [transform(_copied(example["input"])) for example in self.examples]
            except Exception as raised:
                error = f"{type(raised).__name__}: {raised}"
            passed = [_plain(o) == example["output"] for o, example in zip(outputs, self.examples, strict=True)]
        else:
            passed = [False] * len(self.examples)
        right = [example for example, good in zip(self.examples, passed, strict=True) if good]
        fails = [o for o in zip(passed, self.examples, outputs, strict=True) if not o[0]]
        wrong = [dict(example, got=_plain(output)) for _, example, output in fails]
        said = f"The code passes {len(right)} of {len(passed)} examples."
        said += f" It fails with {error}." if error else ""
        said += "".join(f" For {w['input']} it gives {w['got']} and not {w['output']}." for w in wrong if w["got"])
        return Info("feedback", "examples", said, -1), right, wrong

    def get_test_output_from_code(self, code):
        """A solution's answer to the test, as `Info`."""
        text = _content(code)
        if LANGUAGE == "steps":
            answer = _here.life.run_steps(text)["output"]
        elif LANGUAGE == "python":
            try:
                answer = _plain(_transform(text)(_copied(self._test)))
            except Exception:
                answer = None
        else:
            answer = text
        return Info("answer", "test", answer, -1)


def _content(what):
    if isinstance(what, (list, tuple)) and not isinstance(what, Info):
        what = what[-1] if what else ""
    return str(what.content if isinstance(what, Info) else what)


def _transform(code):
    names = {}
    exec(code, names)
    return names["transform"]


def _copied(value):
    return [_copied(item) for item in value] if isinstance(value, (list, tuple)) else value


def _plain(value):
    """Lists and whole numbers of whatever a solution gave."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, (int, str)) else None


@functools.cache
def _compiled():
    return compile(AGENT, "agent", "exec")


class Life(threading.Thread):
    """One task: the agent's source is run afresh, so that nothing is carried from task to task."""

    def __init__(self, number, task, waiting):
        super().__init__(daemon=True)
        self.number, self.task, self.waiting = number, task, waiting
        self.turn = threading.Semaphore(0)
        self.request = self.reply = self.answer = self.error = None
        self.runs = {}

    def run(self):
        """What the thread does."""
        _here.life = self
        try:
            self.answer = self.forward()
        except BaseException:
            self.error = traceback.format_exc()[-2000:]
        self.waiting.put(self)

    def forward(self):
        """Run the agent's function; what it returns, as plain data."""
        names = {"Info": Info, "LLMAgentBase": LLMAgentBase}
        before = set(names) | {"__builtins__"}
        exec(_compiled(), names)
        made = [name for name, value in names.items() if name not in before and callable(value)]
        if len(made) != 1:
            raise TypeError(f"the agent's source must define one function, forward(self, taskInfo), not {made}")
        answer = names[made[0]](AgentSystem(self.task), Info("task", "User", self.task["text"], -1))
        content = answer.content if isinstance(answer, Info) else answer
        return content if isinstance(content, (str, int)) else _plain(content)

    def parent(self, what, argument):
        """Wait for the parent's reply.

        Raises:
            RuntimeError: the parent refuses: the budget is spent, or the request has not its form.
        """
        self.request = [self.number, what, argument]
        self.waiting.put(self)
        self.turn.acquire()
        if "refused" in self.reply:
            raise RuntimeError(self.reply["refused"])
        self.runs.update(self.reply.get("runs", {}))
        return self.reply["fields"]

    def run_steps(self, code):
        """What becomes of a solution in the domain's language; the parent sends it along with the model's reply."""
        if code not in self.runs:
            self.parent("run", code)
        return self.runs[code]


def solve(tasks):
    """A life for each task: [answer, error] each."""
    waiting = queue.SimpleQueue()
    lives = [Life(number, task, waiting) for number, task in enumerate(tasks)]
    for life in lives:
        life.start()
    running = len(lives)
    while running:
        asking = [life for life in [waiting.get() for _ in range(running)] if life.request is not None]
        running = len(asking)
        if asking:
            asking.sort(key=lambda life: life.number)
            replies = serve([life.request for life in asking])  # noqa: F821 (the parent's)
            for life, reply in zip(asking, replies, strict=True):
                life.request, life.reply = None, reply
                life.turn.release()
    return [[life.answer, life.error] for life in lives]
