"""Shows what methods of inference made of an evaluation: a table of them, and a question's tree to read.

The page (:mod:`.evaluation_page`) and the terminal (:mod:`.evaluation_table`) take theirs from here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from carerl.calibration import share_interval
from carerl.inference.base import Branch
from carerl.inference.tree_text import hidden_branches, more_steps, shown_branches, shown_steps, tree_text
from carerl.metrics.table import Metric, format_number, metric_line, shown_in, suite_label
from carerl.report.pictures.decoding import Line, accuracy_over_tokens
from carerl.runs.decoded import Stored, by_method
from carerl.runs.decoding import curve_of
from carerl.text.printable import printable

SHADES = 5  # of unsure steps, in the style sheet
ALIKE = 0.001  # confidences that differ by less are drawn alike
STEP_LIMIT = 400  # characters of a step: what it begins and what it ends with
PROMPT_LIMIT = 1600  # of a prompt, likewise
NOTE = (
    "Accuracy is of the elected answer; confidence is its share of the votes' weight. Tokens and seconds are a "
    "question's, pruned branches included; seconds are the whole time that the method took, divided by the questions. "
    "Differences are to self-consistency on the same questions: each with its whole budget of K branches, and both "
    "with the tokens of the cheaper one; – where that is less than one response of the other."
)


@dataclass(frozen=True, slots=True)
class MethodTable:
    """One suite's methods beside each other. ``columns``: labels of measures; ``lines``: method, and a cell for each
    measure, – where it has none."""

    suite: str
    columns: list[str]
    lines: list[tuple[str, list[str]]]

    @property
    def turned(self) -> list[tuple[str, list[str]]]:
        """The same with a line for each measure, and a cell for each method."""
        return [(column, [cells[place] for _, cells in self.lines]) for place, column in enumerate(self.columns)]


@dataclass(frozen=True, slots=True)
class StepShown:
    """A step's text and its confidence, '' for a line that stands for several. ``unsure``: how dark it is drawn, from 0
    for the surest step of the tree to :data:`SHADES` for the least sure one."""

    text: str
    confidence: str
    unsure: int


@dataclass(frozen=True, slots=True)
class Node:
    """One branch of a tree, with what was drawn for it alone. ``after``: the steps that it shares with the branch that
    it was forked from, 0 at the root. ``end``: how it ended, in words."""

    number: int
    steps: list[StepShown]
    after: int
    end: str
    pruned: bool
    elected: bool
    right: bool
    children: list[Node] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Tree:
    """A question as a method decoded it, to be read."""

    suite: str
    method: str
    example_id: str
    prompt: str
    gold: str
    result: str
    roots: list[Node]
    more: str = ""  # counts the branches that are not shown


def decoding_section(record: Mapping[str, Any], found: Sequence[Stored]) -> dict[str, Any]:
    """Returns what the page shows of decoded questions; empty where there are none."""
    if not found:
        return {}
    return {
        "tables": method_tables(record),
        "note": NOTE,
        "picture": accuracy_over_tokens(method_lines(found)),
        "trees": shown_trees(found),
    }


def method_lines(found: Sequence[Stored]) -> dict[str, dict[str, Line]]:
    """Returns each method's accuracy over tokens, by the label of its suite and its name."""
    return {
        suite_label(suite): {method: _line(method, questions) for method, questions in methods.items()}
        for suite, methods in by_method(found).items()
    }


def _line(method: str, questions: Sequence[Stored]) -> Line:
    found = curve_of(method, [one.answered for one in questions])
    accuracy_K = found.right_QK.mean(axis=0)
    whole = share_interval(found.right_QK[:, -1])
    full = (float(found.tokens_K[-1]), whole.value)
    return Line(found.tokens_K[1:].tolist(), accuracy_K[1:].tolist(), full, whole.low, whole.high)


def method_tables(record: Mapping[str, Any]) -> list[MethodTable]:
    """Returns a table of methods for each suite that was decoded. Measures that no method has make no column.
    ``record``: an evaluation's, with metrics and intervals."""
    places = (name.split("/") for name in record["metrics"] if name.startswith("decode/") and name.count("/") == 3)
    suites: dict[str, dict[str, None]] = {}
    for _, suite, method, _ in places:
        suites.setdefault(suite, {})[method] = None
    return [_table(record, suite, list(methods)) for suite, methods in suites.items()]


def _table(record: Mapping[str, Any], suite: str, methods: Sequence[str]) -> MethodTable:
    metrics, bounds = record["metrics"], record.get("intervals") or {}
    lines = {line.kind: line for line in shown_in("decoding")}
    names = {(kind, method): f"decode/{suite}/{method}/{kind}" for kind in lines for method in methods}
    used = [kind for kind in lines if any(metrics.get(names[kind, method]) is not None for method in methods)]
    rows = []
    for method in methods:
        of_method = [names[kind, method] for kind in used]
        rows.append((method, [_cell(metrics.get(name), bounds.get(name), metric_line(name)) for name in of_method]))
    return MethodTable(suite_label(suite), [lines[kind].label_in("decoding") for kind in used], rows)


def _cell(value: float | None, interval: Sequence[float] | None, line: Metric) -> str:
    if value is None:
        return "–"
    text = format_number(value, line.digits, sign=line.kind.endswith("_gain"))
    if interval:
        text += f" [{format_number(interval[0], line.digits)}, {format_number(interval[1], line.digits)}]"
    return text


def shown_trees(found: Sequence[Stored]) -> list[Tree]:
    """Returns one question of each suite as a tree."""
    return [tree_of(one) for one in most_branching(found)]


def most_branching(found: Sequence[Stored]) -> list[Stored]:
    """Returns the question of each suite with the most forked and pruned branches, of equal ones the first."""
    suites = by_method(found).values()
    return [max((one for of in methods.values() for one in of), key=_branching) for methods in suites]


def terminal_tree(one: Stored, width: int = 100) -> str:
    """Returns the tree of a question as lines for a terminal, under what was asked and the gold answer. Texts are the
    stored ones: a branch is forked where a step ends, so that its own steps are whole."""
    texts = {
        branch.token_ids[start:end]: text
        for branch, of_branch in zip(one.answered.decoded.branches, one.step_texts, strict=True)
        for start, end, text in zip((0, *branch.steps), branch.steps, of_branch, strict=False)
    }
    head = f"{suite_label(one.suite)} · {one.answered.example_id} · {one.method} · {result_words(one)}"
    asked = f"{printable(_cut(one.prompt.strip(), PROMPT_LIMIT))}\ngold answer: {printable(one.gold)}"
    tree = tree_text(one.answered.decoded, lambda ids: texts[tuple(ids)], width)
    return f"{printable(head)}\n{asked}\n{tree}"


def _branching(one: Stored) -> int:
    return sum(branch.pruned + (branch.parent >= 0) for branch in one.answered.decoded.branches)


def tree_of(one: Stored) -> Tree:
    """Makes the tree of a question: a branch stands under the one that it was forked from. Of many branches and steps
    those are shown that a terminal shows too."""
    decoded = one.answered.decoded
    shown = shown_branches(decoded)
    sure = [confidence for number in shown for confidence in decoded.branches[number].confidences]
    nodes = {number: _node(one, number, shown, (min(sure, default=0.0), max(sure, default=0.0))) for number in shown}
    roots: list[Node] = []
    for number in sorted(shown):
        parent = decoded.branches[number].parent
        (roots if parent < 0 else nodes[parent].children).append(nodes[number])
    return Tree(
        suite_label(one.suite),
        one.method,
        one.answered.example_id,
        _cut(one.prompt, PROMPT_LIMIT),
        one.gold,
        result_words(one),
        roots,
        "".join(hidden_branches(decoded, shown)),
    )


def _node(one: Stored, number: int, shown: frozenset[int], range_: tuple[float, float]) -> Node:
    """Makes a node. ``range_``: the least and the greatest confidence of a step in the tree."""
    branch = one.answered.decoded.branches[number]
    shared = len(branch.token_ids) - branch.own
    after = sum(end <= shared for end in branch.steps)
    steps: list[StepShown] = []
    for place, hidden in shown_steps(one.answered.decoded, number, shown):
        if hidden:
            steps.append(StepShown(more_steps(hidden), "", 0))
        sure = branch.confidences[place] if branch.confidences else None
        steps.append(StepShown(_cut(one.step_texts[number][place]), _sure_text(sure), _shade(sure, range_)))
    elected = number == one.answered.decoded.winner
    return Node(number, steps, after, end_words(branch, elected), branch.pruned, elected, one.answered.is_right(number))


def _sure_text(confidence: float | None) -> str:
    return "" if confidence is None else format_number(confidence, 3)


def _shade(confidence: float | None, range_: tuple[float, float]) -> int:
    """Returns how dark a step is drawn. Confidences are 1 less a share of log V, so that with a large vocabulary all of
    them are near 1: what tells steps apart is their place among those of the tree."""
    low, high = range_
    if confidence is None or high - low < ALIKE:
        return 0
    return round(SHADES * (high - confidence) / (high - low))


def end_words(branch: Branch, elected: bool) -> str:
    """Says how a branch ended: its answer and the weight of its vote, or why it has none."""
    if branch.pruned:
        return "pruned"
    if branch.answer is None:
        return "cut off before an answer" if branch.truncated else "no answer"
    return f"{branch.answer} · vote {format_number(branch.weight, 2)}{' · elected' if elected else ''}"


def result_words(one: Stored) -> str:
    """Says what came of a question."""
    decoded = one.answered.decoded
    cost = f"{decoded.tokens:,} tokens in {len(decoded.branches)} branches"
    if decoded.winner < 0:
        return f"no answer · {cost}"
    share = format_number(decoded.confidence, 2)
    return f"{'right' if one.answered.right else 'wrong'} with {share} of the votes' weight · {cost}"


def _cut(text: str, limit: int = STEP_LIMIT) -> str:
    half = limit // 2
    return text if len(text) <= limit else f"{text[:half]} … {text[-half:]}"
