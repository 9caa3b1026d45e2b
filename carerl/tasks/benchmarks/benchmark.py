"""Defines what a data set is to a task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
