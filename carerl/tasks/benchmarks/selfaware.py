"""SelfAware (Yin et al., arXiv 2305.18153): 2,337 questions with an answer and 1,032 that nobody can answer.

The published rows hold a list (or null) in ``answer`` and have a ``question_id``. The authors publish a file and not a
data set on the hub; the hub has a copy of it. [ours] The prompt allows abstaining, in words that the grader reads.
"""

from __future__ import annotations

from carerl.tasks.rows.data import Row

from .benchmark import Benchmark

TEMPLATE = (
    "{question}\n\nAnswer in a few words. If the answer is not known to anybody, or cannot be known, write: "
    "The answer is unknown."
)


def translate(row: Row) -> Row:
    if row.get("id") is None and row.get("question_id") is not None:
        return {**row, "id": f"selfaware-{int(row['question_id']):05d}"}
    return row


SELFAWARE = (
    Benchmark("selfaware", "SelfAware, 3,369 questions, 1,032 of them unanswerable", "selfaware.jsonl", "selfaware",
              TEMPLATE, "OkayestProgrammer/selfAware", "", "train", translate),
)  # fmt: skip
