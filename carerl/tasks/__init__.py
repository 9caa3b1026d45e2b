"""Tasks: where examples come from, how responses are graded, and what an evaluation reports.

A task is one file or package with its Config, and one line in :data:`TASKS`.
"""

from __future__ import annotations

from .base import Evaluation, Suite, SupervisedTask, Task, TaskEntry
from .math import MathConfig, MathTask
from .tiny import TinyConfig, TinyTask

TASKS: dict[str, TaskEntry] = {
    "tiny": TaskEntry(TinyConfig, TinyTask, "a synthetic world of 64 tokens with a known truth"),
    "math": TaskEntry(MathConfig, MathTask, "competition mathematics with a boxed answer (MATH and its like)"),
}

__all__ = ["TASKS", "Evaluation", "Suite", "SupervisedTask", "Task", "TaskEntry"]
