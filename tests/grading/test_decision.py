r"""The decision token: which one it is, under tokenizers that merge labels with what stands beside them.

Responses are lists of vocabulary pieces, so that no test depends on how a text would be encoded. The grader is the real
one. Not covered: probabilities (backends/test_engines, controller/test_decisions)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from carerl.grading.decision import LOOKED_AT, Decision, find_decision, spellings
from carerl.tasks import TextConfig, TextTask
from carerl.tasks.byte_tokenizer import make_byte_tokenizer
from carerl.types import Example, Outcome, Sample

LABELS = ("A", "B", "C", "D")
OPTIONS = ("London", "Paris", "Rome", "Oslo")
SHAPES = ("{}", "Ġ{}", "({}", "Ġ({}", "{})", "{{{}", "{{{}}}", "**{}")  # one piece each, in a tokenizer that merges


def make_tokenizer(
    shapes: Sequence[str] = SHAPES, labels: Sequence[str] = (*LABELS, "a", "b", "c", "d")
) -> PreTrainedTokenizerFast:
    """All bytes, and pieces of several bytes, as byte-level BPE spells them."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE

    pieces = [shape.format(label) for shape in shapes for label in labels if len(shape.format(label)) > 1]
    vocabulary = ["<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet()), *pieces]
    backend = Tokenizer(BPE({piece: k for k, piece in enumerate(vocabulary)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", clean_up_tokenization_spaces=False)


def make_task(folder: Path, tokenizer: PreTrainedTokenizerFast, labels: Sequence[str] = LABELS) -> TextTask:
    options = OPTIONS if len(labels) == 4 else [f"text {k}" for k in range(len(labels))]
    choices = [{"label": label, "text": text} for label, text in zip(labels, options, strict=True)]
    row = {"id": "q", "question": "Where?", "choices": choices, "answer": labels[1]}
    (folder / "choice.jsonl").write_text(json.dumps(row))
    task = TextTask(TextConfig(benchmarks=[str(folder / "choice.jsonl")]), 0)
    task.attach(tokenizer)
    return task


def decided(
    task: TextTask, tokenizer: PreTrainedTokenizerFast, pieces: Sequence[str], truncated: bool = False
) -> tuple[Decision | None, Sample, Example]:
    ids = tuple(tokenizer.convert_tokens_to_ids(list(pieces)))
    assert None not in ids and list(pieces) == tokenizer.convert_ids_to_tokens(list(ids)), "every piece is a token"
    (example,) = task.suites()[0].examples
    outcome, answer = task.grade(example, ids, truncated)
    sample = Sample("q", ids, (-0.1,) * len(ids), truncated, (0, 0), outcome, answer)
    return task.decision(example, sample), sample, example


def spelled(text: str) -> list[str]:
    """A text in bytes, but for what stands between ‹ and ›, which is one piece."""
    pieces: list[str] = []
    for k, part in enumerate(text.replace("›", "‹").split("‹")):
        pieces += [part] if k % 2 else [{" ": "Ġ", "\n": "Ċ"}.get(c, c) for c in part]
    return pieces


# the piece that decides is written «so»; other pieces ‹so›
FORMS = [
    r"First B, then C. So \boxed{«{}»}.",
    r"Maybe \boxed{C}, no. \boxed«{{}»} and not C.",
    r"\boxed«{{}}».",
    r"\boxed{\text{«{}»}}",
    "I see C. The answer is«Ġ{}».",
    "The answer is:«Ġ({}»)",
    "the answer is («{})».",
    "<answer>«{}»</answer> as B said",
    "So C is out.\n\nFinal answer: «**{}»**",
    "«{}»",
    "«({}»)",
    "«{})» %",
    "<think>It is C. The answer is C.</think>\n\n\\boxed{«{}»}",
    r"\boxed{C} is what one would think; \boxed{«{}»}, that is ‹({}›), is right",
    "The answer is«Ġ{}», that is‹Ġ({}›).",
]


@pytest.mark.parametrize("form", FORMS)
def test_the_decision_is_the_token_that_names_the_graded_option(form: str, tmp_path: Path) -> None:
    """Exchanged for any other option's, the answer is that option: by enumeration."""
    tokenizer = make_tokenizer()
    task = make_task(tmp_path, tokenizer)
    for label, text in zip(LABELS, OPTIONS, strict=True):
        filled = form.replace("{}", label).replace("%", text)
        pieces = spelled(filled.replace("«", "‹").replace("»", "›"))
        position = len(spelled(filled.partition("«")[0]))
        decision, sample, example = decided(task, tokenizer, pieces)
        assert decision is not None and sample.answer == label
        assert (decision.position, decision.chosen) == (position, label), pieces
        assert decision.token_ids[label] == sample.response_ids[position]
        assert list(decision.token_ids) == list(LABELS) and len(set(decision.token_ids.values())) == 4
        for other in LABELS:
            ids = list(sample.response_ids)
            ids[position] = decision.token_ids[other]
            piece = pieces[position].replace(label, other)
            assert tokenizer.convert_ids_to_tokens(ids[position]) == piece
            if "%" not in form and "‹" not in form:  # where nothing else names the option
                assert task.grade(example, ids, False)[1] == other


def test_case_is_kept(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    decision, sample, _ = decided(make_task(tmp_path, tokenizer), tokenizer, spelled(r"\boxed{‹b›}"))
    assert decision is not None and sample.answer == "B"
    assert tokenizer.convert_ids_to_tokens(list(decision.token_ids.values())) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("B or C, who knows", Outcome.UNPARSED),
        (r"\boxed{B or C}", Outcome.WRONG),
        (r"\boxed{}", Outcome.UNPARSED),
        (r"\boxed{Paris}", Outcome.CORRECT),  # by its text
        ("Paris", Outcome.CORRECT),
        (r"B: \boxed{Paris}", Outcome.CORRECT),  # the label in the trace decides nothing
        (r"\boxed{E}", Outcome.UNPARSED),
        ("", Outcome.UNPARSED),
    ],
)
def test_responses_without_a_decision(text: str, outcome: Outcome, tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    decision, sample, _ = decided(make_task(tmp_path, tokenizer), tokenizer, spelled(text))
    assert decision is None and sample.outcome is outcome


def test_a_response_that_was_cut_off_has_one_only_if_it_is_graded(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    task = make_task(tmp_path, tokenizer)
    assert decided(task, tokenizer, spelled(r"So \boxed{B"), truncated=True)[0] is None
    found, sample, _ = decided(task, tokenizer, spelled(r"So \boxed{B} and th"), truncated=True)
    assert found is not None and found.position == 10 and sample.answer == "B"


def test_every_option_has_a_token_in_that_spelling_or_there_is_no_decision(tmp_path: Path) -> None:
    """Renormalising over the options that happen to have one would overstate them."""
    merging = make_tokenizer(("Ġ{}",), ("A", "B"))
    task = make_task(tmp_path, merging)
    assert decided(task, merging, spelled("The answer is‹ĠB›."))[0] is None
    assert decided(task, merging, spelled("The answer is B."))[0] is not None, "in a spelling that all have"


def test_a_label_of_several_tokens_is_none(tmp_path: Path) -> None:
    tokenizer = make_byte_tokenizer()
    ten = [str(k) for k in range(1, 11)]
    task = make_task(tmp_path, tokenizer, ten)
    for answer in ("2", "10"):
        decision, sample, _ = decided(task, tokenizer, spelled(rf"\boxed{{{answer}}}"))
        assert decision is None and sample.answer == answer
    nine = make_task(tmp_path, tokenizer, ten[:9])
    assert decided(nine, tokenizer, spelled(r"\boxed{2}"))[0] is not None


def test_a_letter_inside_a_word_is_no_label() -> None:
    tokenizer = make_tokenizer((*SHAPES, "{}ecause", "un{}", "_{}_"))
    named = {
        piece: spellings(tokenizer, tokenizer.convert_tokens_to_ids(piece), "B", LABELS)
        for piece in ("B", "ĠB", "_B_", "Because", "unB", "A", "Ġ")
    }
    assert {piece for piece, found in named.items() if found} == {"B", "ĠB", "_B_"}


def test_what_is_tried_is_bounded(tmp_path: Path) -> None:
    """A response of a hundred thousand labels would be graded as often."""
    tokenizer = make_byte_tokenizer()
    task = make_task(tmp_path, tokenizer)
    far = r"\boxed{B}" + " B" * LOOKED_AT
    near = r"\boxed{B}" + " B" * (LOOKED_AT - 1)
    assert decided(task, tokenizer, spelled(far))[0] is None
    found, _, _ = decided(task, tokenizer, spelled(near))
    assert found is not None and found.position == 7


def test_a_trace_full_of_labels_is_not_graded_once_for_each() -> None:
    """The token that decides, the one before it, and no more: grading is most of what it costs."""
    graded: list[list[int]] = []
    ids = [0] * 30 + [1]  # A thirty times, and then the B that is graded

    def read(response: Sequence[int]) -> str:
        graded.append(list(response))
        return "AB"[response[-1]]

    found = find_decision(ids, "B", lambda token: {"A": 0, "B": 1}, lambda part: " ".join("AB"[k] for k in part), read)
    assert found == Decision(30, "B", {"A": 0, "B": 1})
    assert graded == [[0] * 31, [*[0] * 30, 1]]
