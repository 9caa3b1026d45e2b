"""Countdown (TinyZero's task): reach a target with given numbers, each used once, by + - * / and brackets.

Rows: the shared schema (``extra.numbers``), and the hub's (``nums``, ``target``). The hub has one split, which is cut
here: its first rows are for training, its last 1,024 for evaluation.
"""

from __future__ import annotations

from carerl.tasks.rows.data import Row

from .benchmark import Benchmark

TEMPLATE = (
    "{question}\n\nThink step by step, then give the equation's left side within <answer> </answer> tags, "
    "for example <answer>(1 + 2) / 3</answer>."
)


def translate(row: Row) -> Row:
    numbers = row.get("nums")
    if not isinstance(numbers, list):
        return row
    asked = (
        f"Using the numbers {numbers}, create an equation that equals {row.get('target')}. You can use basic "
        "arithmetic operations (+, -, *, /) and each number can only be used once."
    )
    return {**row, "question": row.get("question") or asked, "numbers": numbers}


_HUB = ("Jiayi-Pan/Countdown-Tasks-3to4", "")

COUNTDOWN = (
    Benchmark("countdown_train", "Countdown, 10,240 training problems", "countdown_train.jsonl", "countdown", TEMPLATE,
              *_HUB, "train[:10240]", translate, trainable=True),
    Benchmark("countdown", "Countdown, 1,024 test problems", "countdown_test.jsonl", "countdown", TEMPLATE,
              *_HUB, "train[-1024:]", translate),
)  # fmt: skip
