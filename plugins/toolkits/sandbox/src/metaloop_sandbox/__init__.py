"""A sandbox for code that nobody has read."""

from metaloop_sandbox.answer import Answer, Json, Reason
from metaloop_sandbox.mechanism import Mechanism
from metaloop_sandbox.mechanisms import Protection
from metaloop_sandbox.program import Program
from metaloop_sandbox.sandbox import Sandbox, run

__all__ = ["Answer", "Json", "Mechanism", "Program", "Protection", "Reason", "Sandbox", "run"]
