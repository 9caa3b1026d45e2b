"""Defines what a data set is to a task, and the settings that tasks over text share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from carerl.tasks.rows.data import Row, as_row, read_hub, read_jsonl
from carerl.tasks.rows.questions import Question, parse_question

TEST_SPLIT = "it is a test set, and what is reported on is not trained on"


def unchanged(row: Row) -> Row:
    return row


@dataclass(frozen=True)
class Benchmark:
    """Describes a data set: where its rows are, how a row is read, and how it is asked and graded.

    ``file``: its name in a data directory. ``hub``, ``subset``, ``split``: its place on the hub ('' if it has none).
    ``translate`` turns a row of the hub's schema into one of :mod:`~carerl.tasks.rows.questions`, and leaves rows in
    that schema as they are. ``grader``: '' leaves the choice to the rows. ``refusal``: why it is not trained on.
    """

    name: str
    line: str
    file: str
    grader: str
    template: str
    hub: str = ""
    subset: str = ""
    split: str = "test"
    translate: Callable[[Row], Row] = unchanged
    trainable: bool = False
    refusal: str = TEST_SPLIT

    def parse(self, row: Any, where: str) -> Question:
        """Reads one row, in either schema. Raises ValueError naming ``where`` (file and row) and the field."""
        return parse_question(self.translate(as_row(row, where)), where, self.grader, self.template)

    def at_hand(self, data_dir: str = "") -> bool:
        """Returns True if the rows are in a file on this machine, so that the hub is not asked for them."""
        path = Path(data_dir).expanduser() / self.file
        return bool(Path(self.file).is_absolute() or data_dir) and path.is_file()

    def load(self, data_dir: str = "", revisions: Sequence[str] = ()) -> list[Question]:
        """Reads all rows: from the file if ``data_dir`` holds it, else from the hub, at the commit that ``revisions``
        (``owner/name@commit``) give for it.

        Raises ValueError for a bad row, for a data set without rows or with one id twice, and for one that is in
        neither place.
        """
        path = Path(data_dir).expanduser() / self.file
        if Path(self.file).is_absolute() or self.at_hand(data_dir):
            rows = read_jsonl(path)
        elif self.hub:
            commits = dict(revision.split("@", 1) for revision in revisions if "@" in revision)
            rows = read_hub(self.hub, self.subset, self.split, commits.get(self.hub, ""))
        else:
            raise ValueError(f"{self.name}: the hub has no copy of it; write task.data_dir=, where {self.file} lies")
        questions: dict[str, Question] = {}
        places: dict[str, str] = {}
        for where, row in rows:
            question = self.parse(row, where)
            if question.id in questions:
                raise ValueError(
                    f"{self.name}: {places[question.id]} and {where} have the same id {question.id!r}; give each row "
                    "its own, or leave the ids out"
                )
            questions[question.id], places[question.id] = question, where
        if not questions:
            raise ValueError(f"{self.name}: no rows")
        return list(questions.values())


@dataclass
class TextConfig:
    r"""Holds the settings of every task over text. A data set is given by a name of
    :data:`~carerl.tasks.benchmarks.table.BENCHMARKS`, or by the path of a ``.jsonl`` file (see
    :mod:`~carerl.tasks.benchmarks.jsonl`).

    ``prompt_template`` must hold ``{question}``, which stands for the question and its options; '' means each data
    set's own template. A tokenizer without a chat template gets system prompt and filled template as plain text. A row
    is refused if it has a ``system`` of its own that differs from ``system_prompt``.

    ``ask_confidence`` appends :data:`CONFIDENCE` to the template, unless the template has a ``<confidence>`` of its
    own. The form of the answer stays the data set's; :func:`~carerl.calibration.verbalized_confidence` reads the
    statement behind it.
    """

    name: str = "jsonl"
    train: str = ""  # what is trained on; needed for training only
    benchmarks: list[str] = field(default_factory=list)  # what is evaluated on; the first is the primary one
    data_dir: str = ""  # a data set's file is looked for here, and then on the hub
    system_prompt: str = ""
    prompt_template: str = ""
    ask_confidence: bool = False  # have every response state how sure it is, see CONFIDENCE
    decontaminate: str = "drop"  # drop | refuse | off: training rows that overlap an evaluation prompt
    validation_questions: int = 0  # training questions held out as the suite `validation`; the same for every seed
    # data sets of the hub with their commits, owner/name@commit: found by the run and written down; or a tag of yours
    hub_revisions: list[str] = field(default_factory=list)
    max_prompt_tokens: int = 0  # training prompts of more tokens are dropped; 0: what max_model_len leaves for a prompt


CONFIDENCE_TAG = "<confidence>"
CONFIDENCE = (
    "\n\nAfter the answer, state how likely it is that your answer is right, as a number between 0 and 1, "
    f"within {CONFIDENCE_TAG} </confidence> tags."
)
DECONTAMINATE = ("drop", "refuse", "off")
