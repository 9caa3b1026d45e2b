"""Tasks: where examples come from, how responses are graded, and what an evaluation reports.

A task is one file or package with its Config, and one line in :data:`TASKS`. Tasks over text share
:class:`~carerl.tasks.text.TextTask`; their data sets are the lines of :data:`BENCHMARKS`. :mod:`~carerl.tasks.judging`
grades and rewards the groups of any task.
"""

from __future__ import annotations

from carerl.tasks.benchmarks.benchmark import Benchmark, TextConfig
from carerl.tasks.benchmarks.commonsenseqa import CommonsenseQAConfig
from carerl.tasks.benchmarks.countdown import CountdownConfig
from carerl.tasks.benchmarks.gsm8k import Gsm8kConfig
from carerl.tasks.benchmarks.math import MathConfig
from carerl.tasks.benchmarks.openbookqa import OpenBookQAConfig
from carerl.tasks.benchmarks.table import BENCHMARKS
from carerl.tasks.rows.questions import Question

from .base import ASKS_CONFIDENCE, DecisionTask, Evaluation, Suite, SupervisedTask, Task, TaskEntry
from .text import TextTask
from .tiny import TinyConfig, TinyTask

TASKS: dict[str, TaskEntry] = {
    "tiny": TaskEntry(TinyConfig, TinyTask, "a synthetic world of 64 tokens with a known truth"),
    "math": TaskEntry(MathConfig, TextTask, "competition mathematics with a boxed answer (MATH)"),
    "gsm8k": TaskEntry(Gsm8kConfig, TextTask, "word problems of grade school (GSM8K)"),
    "commonsenseqa": TaskEntry(CommonsenseQAConfig, TextTask, "decisions between five options (CommonsenseQA)"),
    "openbookqa": TaskEntry(OpenBookQAConfig, TextTask, "decisions between four options (OpenBookQA)"),
    "countdown": TaskEntry(CountdownConfig, TextTask, "arithmetic with given numbers (Countdown)"),
    "jsonl": TaskEntry(TextConfig, TextTask, "your own .jsonl file, or any of the data sets"),
}

__all__ = [
    "ASKS_CONFIDENCE",
    "BENCHMARKS",
    "TASKS",
    "Benchmark",
    "DecisionTask",
    "Evaluation",
    "Question",
    "Suite",
    "SupervisedTask",
    "Task",
    "TaskEntry",
    "TextConfig",
    "TextTask",
]
