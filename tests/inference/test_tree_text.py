"""The tree as text: what a person reads of it, and that nothing in it steers a terminal."""

from __future__ import annotations

import inspect

from carerl.inference import tree_text as module
from carerl.inference.base import Branch, Decoded
from carerl.inference.election import elected
from carerl.inference.tree_text import shown_branches, tree_text
from tests.inference.toy import chain, context, run

WORDS = {4: "I think that", 5: "3 + 4 =", 6: "8.\n", 7: "7.\n", 8: "So it", 9: "is 9.", 10: "is 7."}


def text_of(token_ids) -> str:
    return " ".join(WORDS[token] for token in token_ids)


def example() -> Decoded:
    branches = (
        Branch((0,), (4, 5, 6), 3, steps=(3,), confidences=(0.31,), pruned=True),
        Branch((1,), (5, 7, 8, 10), 4, steps=(2, 4), confidences=(0.97, 0.92), weight=0.95),
        Branch((1, 1), (5, 7, 8, 9), 2, 1, (2, 4), (0.97, 0.79), weight=0.88),
    )
    return elected(Decoded(branches, -1, 0.0, 9, 2), [None, "7", "9"])


def test_the_example_of_the_module_is_what_it_writes() -> None:
    assert inspect.cleandoc(tree_text(example(), text_of)) in inspect.getdoc(module).replace("\n    ", "\n")  # type: ignore[union-attr]


def test_every_branch_and_every_drawn_step_has_its_line_once() -> None:
    forks = 0
    for seed in range(20):
        decoded = run("cat", chain(seed), context(seed, cat__threshold=0.4))
        lines = tree_text(decoded, lambda ids: "t" * len(ids), width=60).split("\n")
        steps = sum(sum(end > len(b.token_ids) - b.own for end in b.steps) for b in decoded.branches)
        assert len(lines) == 1 + len(decoded.branches) + steps
        assert sum("elected" in line for line in lines[1:]) == (decoded.winner >= 0)
        assert sum("pruned after step" in line for line in lines) == decoded.facts["pruned"]
        assert sum(line.count("t" * 1) for line in lines if "─" not in line) - lines[0].count("t") == decoded.tokens
        for branch in decoded.branches:
            name = ".".join(map(str, branch.path))
            assert sum(f"─ {name}  " in line for line in lines) == 1
        forks += int(decoded.facts["forks"])
    assert forks > 10


def test_long_steps_are_shortened_and_nothing_steers_the_terminal() -> None:
    hostile = "\x1b[2J‮evil\n\n" + "x" * 500
    decoded = elected(Decoded((Branch((0,), (4,), 1, steps=(1,)),), -1, 0.0, 1, 1), ["\x1b]0;a\x07" + "9" * 99])
    lines = tree_text(decoded, lambda ids: hostile, width=60).split("\n")
    assert len(lines) == 3, "a step is one line, without a confidence where there is none"
    assert all(ord(mark) >= 32 and mark != "‮" for line in lines for mark in line)
    assert max(map(len, lines[2:])) == 60 and lines[2].endswith("…") and len(lines[1]) < 100
    deep = Decoded((Branch((0,), (4,), 1, steps=(1,)),), -1, 0.0, 1, 1)
    assert "no answer: 0 of 1 branch voted. 1 token drawn, 0 of them in pruned branches; 1 round." in tree_text(
        deep, lambda ids: "a"
    )


def test_of_many_steps_the_first_and_the_last_are_shown_and_where_a_shown_branch_was_forked() -> None:
    ends = tuple(range(1, 156))
    branches = (
        Branch((0,), (4,) * 155, 155, steps=ends),
        Branch((0, 1), (4,) * 103, 3, 0, steps=ends[:103], pruned=True),
    )
    lines = tree_text(Decoded(branches, -1, 0.0, 158, 2), lambda ids: "word", width=60).split("\n")
    marks = [line.removeprefix("      ").removeprefix("│     ") for line in lines[2:]]
    assert marks == [
        *(f"{n}  word" for n in range(1, 9)), "… 91 more steps", "100  word",
        "├─ 0.1  pruned after step 103", *(f"{n}  word" for n in (101, 102, 103)),
        "… 51 more steps", *(f"{n}  word" for n in range(152, 156)),
    ]  # fmt: skip
    assert 8 + 91 + 1 + 51 + 4 == 155


def test_of_many_branches_the_elected_one_and_its_parents_are_shown() -> None:
    """The elected one is the last of a line of forks that ends far behind; every hidden one is counted."""
    branches = [Branch((k,), (4, 4), 2, steps=(1, 2), pruned=k % 2 == 0) for k in range(60)]
    branches += [Branch((40, 1), (4, 4), 1, 40, (1, 2)), Branch((40, 1, 1), (4, 4, 4), 1, 60, (1, 2, 3))]
    decoded = Decoded(tuple(branches), 61, 1.0, 123, 3)
    shown = shown_branches(decoded)
    assert shown == {61, 60, 40, *range(9)}
    lines = tree_text(decoded, lambda ids: "word").split("\n")
    assert sum("─ " in line for line in lines) == 12 and sum("elected" in line for line in lines[1:]) == 1
    hidden = [n for n in range(62) if n not in shown]
    assert lines[-1] == f"… 50 more branches, {sum(branches[n].pruned for n in hidden)} of them pruned"
    assert len(shown_branches(Decoded(tuple(branches), -1, 0.0, 123, 3))) == 12
