"""Writes the tree of one question as text: its branches, their steps with confidence, what was pruned, and the vote.

    7 elected with .52 of the weight: 2 of 3 branches voted. 9 tokens drawn, 3 of them in pruned branches; 2 rounds.
    ├─ 0  pruned after step 1
    │     1  .310  I think that 3 + 4 = 8.
    └─ 1  answer 7, weight .95, elected
          1  .970  3 + 4 = 7.
          ├─ 1.1  answer 9, weight .88
          │     2  .790  So it is 9.
          2  .920  So it is 7.

A branch is named by its path. A fork stands below the last step that it shares with its parent. Where there are many
branches or steps, lines such as ``… 143 more steps`` stand for some of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from carerl.text.printable import printable

from .base import Branch, Decoded

Decode = Callable[[Sequence[int]], str]
LEAST = 20  # columns of a step's text, however deep the branch
STEPS = 12  # of a branch that are shown where there are more: the first ones, and of the last a third as many
BRANCHES = 12  # of a question that are shown where there are more


def tree_text(decoded: Decoded, decode: Decode, width: int = 100) -> str:
    """Returns the lines, without a line feed at the end.

    ``decode``: the text of some token ids. Steps are shortened to ``width`` columns, and nothing in them steers a
    terminal. Of many branches and steps some are counted only (:func:`shown_branches`, :func:`shown_steps`).
    """
    shown = shown_branches(decoded)
    lines = [headline(decoded), *_Writer(decoded, decode, width, shown).children(-1, None, "")]
    return "\n".join([*lines, *hidden_branches(decoded, shown)])


def shown_branches(decoded: Decoded, most: int = BRANCHES) -> frozenset[int]:
    """Returns the numbers of the branches that a person is shown: the elected one and what it was forked from, then the
    first ones, ``most`` in all or as many as that line has. A shown branch's parent is shown too: it was drawn
    before."""
    shown: set[int] = set()
    number = decoded.winner
    while number >= 0:
        shown.add(number)
        number = decoded.branches[number].parent
    for number in range(len(decoded.branches)):
        if len(shown) < most:
            shown.add(number)
    return frozenset(shown)


def hidden_branches(decoded: Decoded, shown: frozenset[int]) -> list[str]:
    """Returns a line that counts the branches that are not shown; none if all are."""
    hidden = [branch for number, branch in enumerate(decoded.branches) if number not in shown]
    pruned = sum(branch.pruned for branch in hidden)
    return [f"… {len(hidden)} more {'branch' if len(hidden) == 1 else 'branches'}, {pruned} of them pruned"] * bool(
        hidden
    )


def shown_steps(decoded: Decoded, number: int, shown: frozenset[int], most: int = STEPS) -> list[tuple[int, int]]:
    """Returns the steps that a branch drew itself and a person is shown: the place of each among the branch's steps,
    and how many steps are hidden before it. Of more than ``most`` those are shown that come first and last, and those
    after which a shown branch was forked."""
    branch = decoded.branches[number]
    begin = len(branch.token_ids) - branch.own
    own = [place for place, end in enumerate(branch.steps) if end > begin]
    others = (decoded.branches[other] for other in shown if decoded.branches[other].parent == number)
    forked = {len(other.token_ids) - other.own for other in others}
    last = len(own) - most // 3
    kept = [place for n, place in enumerate(own) if n < most - most // 3 or n >= last or branch.steps[place] in forked]
    before = [own[0] - 1, *kept] if own else []
    return [(place, place - earlier - 1) for earlier, place in zip(before, kept, strict=False)]


def more_steps(count: int) -> str:
    """Returns the words for steps that are not shown."""
    return f"… {count} more {'step' if count == 1 else 'steps'}"


def headline(decoded: Decoded) -> str:
    """Returns what came of the question, in one line."""
    ended = [branch for branch in decoded.branches if not branch.pruned]
    votes = sum(branch.answer is not None for branch in ended)
    pruned = sum(branch.own for branch in decoded.branches if branch.pruned)
    if decoded.winner < 0:
        result = "no answer"
    else:
        answer = decoded.branches[decoded.winner].answer
        result = f"{_line(str(answer), 40)} elected with {_share(decoded.confidence)} of the weight"
    drawn = f"{_count(decoded.tokens, 'token')} drawn, {pruned} of them in pruned branches"
    voted = f"{votes} of {_count(len(decoded.branches), 'branch')} voted"
    return f"{result}: {voted}. {drawn}; {_count(decoded.rounds, 'round')}."


@dataclass(frozen=True)
class _Writer:
    """Writes the branches of a tree that are shown."""

    decoded: Decoded
    decode: Decode
    width: int
    shown: frozenset[int]

    def children(self, parent: int, shared: int | None, indent: str) -> Iterator[str]:
        """Yields the lines of the branches that were forked from a parent after ``shared`` of its tokens."""
        found = [
            number
            for number, branch in enumerate(self.decoded.branches)
            if number in self.shown
            and branch.parent == parent
            and (shared is None or len(branch.token_ids) - branch.own == shared)
        ]
        for number in found:
            last = number == found[-1] and parent < 0
            branch = self.decoded.branches[number]
            name = ".".join(map(str, branch.path))
            yield f"{indent}{'└─' if last else '├─'} {name}  {_fate(branch, number == self.decoded.winner)}"
            yield from self._steps(number, indent + ("      " if last else "│     "))

    def _steps(self, number: int, indent: str) -> Iterator[str]:
        """Yields a line for each step that is shown, and after it the branches that were forked there."""
        branch = self.decoded.branches[number]
        begin = len(branch.token_ids) - branch.own
        for place, hidden in shown_steps(self.decoded, number, self.shown):
            if hidden:
                yield indent + more_steps(hidden)
            start = max(begin, branch.steps[place - 1] if place else 0)
            end = branch.steps[place]
            head = f"{indent}{place + 1}  "
            if branch.confidences:
                head += f"{_share(branch.confidences[place], 3)}  "
            text = self.decode(branch.token_ids[start:end])
            yield head + _line(text, max(LEAST, self.width - len(head)))
            yield from self.children(number, end, indent)


def _fate(branch: Branch, elected: bool) -> str:
    if branch.pruned:
        return f"pruned after step {len(branch.steps)}"
    answer = "no answer" if branch.answer is None else f"answer {_line(branch.answer, 40)}"
    parts = [answer + (" (cut off at the length limit)" if branch.truncated else ""), f"weight {branch.weight:.3g}"]
    return ", ".join(parts + ["elected"] * elected).replace("weight 0.", "weight .")


def _share(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}f}".removeprefix("0")


def _line(text: str, width: int) -> str:
    """Returns the text in one line of at most ``width`` characters."""
    line = " ".join(printable(text).split())
    return line if len(line) <= width else line[: width - 1] + "…"


def _count(number: int, noun: str) -> str:
    plural = noun + ("es" if noun.endswith("ch") else "s")
    return f"{number} {noun if number == 1 else plural}"
