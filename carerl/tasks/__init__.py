"""Tasks: where examples come from, how responses are graded, and what an evaluation reports.

A task is one file or package with its Config, and one line in :data:`TASKS`. Tasks over text share
:class:`~carerl.tasks.text.TextTask`; their data sets are the lines of :data:`BENCHMARKS`. :mod:`~carerl.tasks.judging`
grades and rewards the groups of any task.
"""

from __future__ import annotations

from carerl.tasks.benchmarks.benchmark import Benchmark
from carerl.tasks.benchmarks.config import (
    CommonsenseQAConfig,
    CountdownConfig,
    Gsm8kConfig,
    MathConfig,
    OpenBookQAConfig,
    TextConfig,
)
from carerl.tasks.benchmarks.table import BENCHMARKS, trained_suites
from carerl.tasks.rows.questions import Question

from . import text_metrics
from .base import (
    ASKS_CONFIDENCE,
    DecisionTask,
    Evaluation,
    Suite,
    SupervisedTask,
    Task,
    TaskConfig,
    TaskEntry,
    TaughtTask,
)
from .text import TextTask
from .tiny import TinyConfig, TinyTask
from .tiny import metrics as tiny_metrics


def text_entry(config: type, line: str) -> TaskEntry:
    """Returns the line of a task over text, which has the metrics of :mod:`~carerl.tasks.text_metrics`."""
    return TaskEntry(config, TextTask, line, text_metrics.METRICS, text_metrics.SUITES, trained_suites=trained_suites)


TASKS: dict[str, TaskEntry] = {
    "tiny": TaskEntry(
        TinyConfig, TinyTask, "a synthetic world of 64 tokens with a known truth",
        tiny_metrics.METRICS, tiny_metrics.SUITES, tiny_metrics.suite_names,
        tiny_metrics.trained_suites,
    ),
    "math": text_entry(MathConfig, "competition mathematics with a boxed answer (MATH)"),
    "gsm8k": text_entry(Gsm8kConfig, "word problems of grade school (GSM8K)"),
    "commonsenseqa": text_entry(CommonsenseQAConfig, "decisions between five options (CommonsenseQA)"),
    "openbookqa": text_entry(OpenBookQAConfig, "decisions between four options (OpenBookQA)"),
    "countdown": text_entry(CountdownConfig, "arithmetic with given numbers (Countdown)"),
    "jsonl": text_entry(TextConfig, "your own .jsonl file, or any of the data sets"),
}  # fmt: skip

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
    "TaskConfig",
    "TaskEntry",
    "TaughtTask",
    "TextConfig",
    "TextTask",
]
