r"""What a response states of an option without marking it: forms of statements, denials, corrections and hedges.

The verdicts are by hand; over real options the forms are filled in and what they name is known. Not covered: boxes,
tags and announced answers of the plain kind (``test_graders``, ``test_cases``).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from carerl.grading import GRADERS, Gold, Verdict
from carerl.grading.choice.options import fold, mentions, read_options
from carerl.types import Outcome

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
METALS = (("A", "iron"), ("B", "gold"), ("C", "tin"), ("D", "lead"))


def grade(response: str, gold: str = "C", choices: tuple[tuple[str, str], ...] = METALS, cut: bool = False) -> Verdict:
    return GRADERS["choice"].grade(response, Gold((gold,), choices=choices), cut)


STATES_C = [
    "c. tin", "C: tin", "«C»", "‘C’", "`C`", "C...", "⇒ C", "-> C", "So the answer: C", "Hence C",
    "Therefore (C).", "In conclusion, C.", "Clearly C.", "Overall, C is the best fit.", "Final Answer\nC",
    "FINAL ANSWER\n\nC.", "My answer is C.", "Letter: C", "Selected answer: C", "Correct option: C",
    "Correct: C", "Response: C", "The most likely answer is C.", "The most accurate option is C.",
    "The option that fits is C.", "The correct answer would have to be C.",
    "The letter of the right answer is (C).", "The correct one is C.", "C is the right choice.",
    "C is the correct letter.", "(C) is the answer.", "Option C fits best.", "Choice C is the answer.",
    "Answer C is correct.", "I will go with option C.", "I say C.", "I think C.", "I believe it is C.",
    "I'd opt for C.", "I vote C.", "We choose C.", "It should be C.", "That would be C.", "This is option C.",
    "This matches option C.", "Pick C.", "Probably C.", "Most likely C.", "C, I think.", "C, tin", "C = tin",
    "tin", "I choose tin.", "I would say tin.", "The best choice is tin.", "So, tin.", "option c", "letter c",
    "the answer is c", "answer: c", "C. tin is correct.", "The answer is C: tin.", "The answer is {C}.", "$C$",
    "\\(C\\)", "\\textbf{C}", "$\\mathbf{C}$", "<answer>C", "<final>C</final>", "{\"answer\": \"C) tin\"}",
    "Iron melts late. Gold melts late. Tin melts first, so C.",
    "A is wrong, B is wrong, and D is wrong, so it must be C.", "We can rule out A, B and D. Hence C.",
    "Only C fits.", "C is the only one that works.", "The answer seems to be C.", "The answer can only be C.",
    "The answer is clearly C.", "The answer is most likely C.", "The answer is therefore option C.",
    "The answer is the third option, C.", "Answer: option C", "Answer: choice C.",
    "Answer: C.\nExplanation: A is too hard.", "C\n\nA is wrong because iron is hard.", "Sure, C.", "Yes, C.",
    "Okay, so C.", "Good question. I'd say C.",
    "The options are A) iron B) gold C) tin D) lead. The best is C.",
    "Let's think step by step. Tin has symbol Sn. Therefore the answer is C", "the correct answer is (c).",
    "The answer is （C）.", "【C】", "「C」", "**Correct answer: C**", "The right option is (C).",
    "I'm confident it's C.", "I'm pretty sure it's C.", "I would have to go with C.", "My answer would be C.",
    "Thus the answer should be C.", "Thus, the most probable answer is C.",
    "By process of elimination, the answer is C.", "C is the only option left.", "C is the only one left.",
    "The only choice left is C.", "Best fit: C", "Ans - C", "ANS: (C)", "Answer:**C**", "Answer: \"C\"",
    "Answer: {C}", "Answer: C,", "Answer choice (C).", "Choice C.", "Option [C]", "The letter is C",
    "Letter: C.", "C is the one.", "C is it.", "C seems to be the best answer.", "C must be the answer.",
    "C has to be right.", "C, of course.", "C (because it melts first)", "C - because it melts first", "C).",
    "C:", "[ C ]", "\" C \"", "*(C)*", "= C", "→C", "⟹ C", "➜ C", "➡ C", "✅ C", "☑ C", "❯ C", "| C", "# C",
    "### C", "###C", "C ✅", "C.<|im_end|>", "<ANSWER>C</ANSWER>", "[ANSWER]C[/ANSWER]", "[Answer: C]",
    "answer: c.", "Answer: c) tin", "I think it's tin.", "I think the answer is tin.", "It is tin.",
    "Has to be C.", "Probably tin.", "Tin fits best.", "C. Tin is the answer.",
    "The answer is C; A is too hard.", "The answer is C, as A, B and D are too hard.",
    "A is wrong; B is wrong; D is wrong; C is right.", "Statement: tin melts first.\nAnswer: C",
    "Let me think. Tin melts first. Final answer: C", "Let me think.\n\nFinal Answer: **C**",
    "Let me think.\n\n**Final Answer**\n\nC", "Let me think.\n\n**Final Answer:** C. tin",
    "Let me think.\n\n---\n\nC", "Reason: tin melts first\nChoice: C", "C\nReason: tin melts first",
    "The answer is C. Although A seems plausible, it is too hard.", "Final: C", "C tin", "c tin", "Going with C.",
    "Let's go with C.", "答案：C", "答案是C", "正确答案为选项 C。",
]  # fmt: skip

NOT_B = [
    "The answer is B or C.", "The answer is B, or maybe C.", "B or C", "B/C", "B & C", "B, C", "B and C",
    "either B or C", "Either B or C is correct.", "Both B and C", "Both B and C are correct.",
    "It is between B and C.", "The answer is B and C.", "I'd choose B or C.", "I'd say B, maybe C.",
    "My guess is B or A.", "B? C?", "B? Or C?", "Is it B?", "The answer is B. Or maybe C.",
    "The answer is B. It could also be C.", "The answer is B, although it might be C.",
    "B, but C is also possible.", "B, but C is also correct.", "B is correct, and C is correct too.",
    "The answer is not B.", "The answer isn't B.", "The answer cannot be B.", "It can't be B.", "It is not B.",
    "Not B.", "Never B.", "B is not the answer.", "B is not correct.", "B isn't correct.", "B is incorrect.",
    "B is wrong.", "B is the wrong answer.", "B is the worst option.", "B is the least likely answer.",
    "B can be ruled out.", "B cannot be the answer.", "We can rule out B.", "I would not choose B.",
    "I wouldn't choose B.", "I don't think it is B.", "I don't think B is correct.", "I doubt that it is B.",
    "I am not sure that it is B.", "If B is correct, then x is 2.", "Suppose the answer is B.",
    "Some say B is correct.", "Some people would say B.", "Many would choose B.",
    "One might think B is correct.", "At first B seems correct, but it is C.",
    "It is tempting to choose B, but C is correct.", "B seems right, but the answer is C.",
    "I thought B, but it's C.", "The answer is C, not B.", "The answer is C rather than B.", "C, not B.",
    "Not B but C.", "The answer is not B but C.", "B is a good choice, but C is the best answer.",
    "The answer is B. No, it is C.", "The answer is B. Wait, no.", "The answer is B, no, C.", "B. No, wait: C.",
    "B\nC", "B\n\nC", "A\nB", "A) iron\nB) gold\nC) tin\nD) lead", "- A\n- B", "A. Too hard.\nB. Too soft.",
    "B was my first guess; the answer is C.", "My first guess is B, but C it is.", "The wrong answer is B.",
    "The incorrect option is B.", "The least likely answer is B.", "The second best answer is B.",
    "The best answer after B is C.", "All but B.", "Anything but B.", "Everything except B.",
    "None of A, B, C.", "Neither B nor C.", "B or none.", "Vitamin B", "Plan B.", "The answer is vitamin B.",
    "The answer is Hepatitis B.", "Point B is at the origin.", "Because of a long story",
    "In figure B we see that", "The answer is iron (B).", "(B) iron", "B. iron", "Answer: B) lead",
    "The answer is B (tin).", "B: tin", "The answer is not gold.", "gold or tin", "The answer is gold or lead.",
    "Not gold.", "Gold is wrong.", "Gold is not the answer.", "I would not say gold.",
    "It's not gold; it's tin.", "Why B?", "Why not B?", "Why is B the answer?", "Is B the answer?",
    "Could it be B?", "The answer is B if x is 2, otherwise C.", "The answer is B unless C holds.",
    "Unless B is correct, I would go with C.", "B would be correct if iron were soft.",
    "B would have been the answer.", "It could be B, it could be C.", "Maybe B, maybe C.", "Perhaps B or C.",
    "I would choose B, but C is just as good.", "I cannot decide between B and C.", "I can't choose B.",
    "The question is whether B is correct.", "The answer is either B or C.", "The answer is one of B and C.",
    "The answer is among B, C and D.", "The answer lies between B and C.", "B and D are wrong.",
    "B is true. C is true.", "A is true. B is true. C is false.", "Option B is correct. Option C is correct.",
    "B is closer than A, but D is the best.", "Answer: not B", "Answer: B?", "Answer: none",
    "Answer: B is wrong", "Answer: neither", "The correct answer is not given. B is close.",
    "Everyone says B is correct, which is false.", "It is false that B is correct.",
    "It is not true that the answer is B.", "The claim that B is the answer is wrong.",
    "{\"answer\": \"not B\"}", "{\"answer\": \"B or C\"}", "{\"answer\": [\"B\", \"C\"]}",
    "<answer>B or C</answer>", "<answer>C</answer> B", "The answer is B\nThe answer is C",
    "Final answer: C. (B is wrong.)", "So B... or C.", "=> B or C", "→ B, C", "\"B\" or \"C\"", "<B> <C>",
    "{B, C}", "{B} {C}", "A: B or C", "Letter B or C", "B!C", "BC", "B2", "Be", "I would say B is wrong.",
    "I guess B is wrong.", "The answer is B is wrong.", "I said B, but I meant C.",
    "Let B be the answer set; C is the answer.", "A student chose B.", "The student chose B and got it wrong.",
    "The textbook says the answer is B, but it is C.", "Others choose B.", "You chose B.",
    "You should not pick B.", "Don't choose B.", "Do not pick B.", "Avoid B.", "Eliminate B.", "Cross out B.",
    "B out.", "Only B is wrong.", "All options except B are correct.", "Option B is almost correct.",
    "B is nearly right.", "B is partially correct.", "B is half right, C is fully right.",
    "B is less correct than C.", "B is better than A but C is best.",
    "What about B?", "C is more accurate than B.", "B is only correct in theory.", "I never said B.",
    "Assume B.", "All that glitters is not gold", "I wouldn't go with B.", "B should be rejected.",
    "B is correct only if C is wrong.", "The answer is the option before C.",
    "The best choice was B until I saw C.", "B.C.", "Wrong answer: B", "Is it B", "C beats B.",
    "The answer is B2.", "According to him, B is right.", "A B C D", "The answer: B? C!", "B; actually C",
    "B is rarely the right answer.", "The best choice is between B and C.", "{\"answer\": \"A, B\"}",
    "Unless it's B, it's C.", "My choice isn't B.", "The answer lies somewhere between B and C", "'B' 'C'",
    "I'd choose C over B.", "\\boxed{\\text{B or C}}", "B seems correct at first glance but C is correct.",
    "B is hardly the best choice.", "Incorrect: B", "¬B", "{\"wrong\": \"B\", \"right\": \"C\"}",
    "If B then C.", "<answer>not B</answer>", "Your answer: B\nCorrect answer: C", "B no C",
    "B doesn't fit.", "B is no better than C.", "B then C", "C [B is wrong]", "B is unlikely.",
    "The best choice is B or C.", "\\boxed{B?}", "Gold seems right but tin is the answer.",
    "I'm not saying B.", "B is never the answer.", "gold, silver", "The answer is tin, not gold.",
    "\\boxed{B\\subset C}", "B) incorrect", "\\boxed{\neg B}", "B\\C", "Answer: Both B, C",
    "Correct: A. Incorrect: B.", "I wouldn't say B.", "A.B.", "It could be argued that the answer is B.",
    "I am not convinced that B is the answer.", "B) C)", "B... C", "The gold standard", "B fails.",
    "C; B is wrong.", "B - wrong", "B is the second best answer.", "Given B, C follows.", "1. A\n2. B",
    "I'd prefer C to B.", "B is the runner-up; C is the winner.", "B must not be chosen.",
    "\"B\" and \"C\"", "One could argue for B.", "B: false", "B ❌", "1) B\n2) C", "C and not B.",
    "Some say gold.", "C, rather than B, is the answer.", "Answer: all of A, B, C", "B!?",
    "Answer: B is not right", "None of the options is right; B is the closest.",
    "I don't believe B is the answer.", "C instead of B.", "!B", "Answer: B, C",
    "It would be wrong to say the answer is B.", "The answer is \\text{not B}.", "You'd think it's B.",
    "\\boxed{A \\cap B}", "I'd choose C before B.", "Fool's gold", "Student's answer: B\nCorrect answer: C",
    "B?", "I was torn between B and C.", "I would not pick gold.", "Eliminated: B", "gold and tin",
    "I'd rather not choose B.", "The answer is B's opposite.", "(A)(B)(C)(D)",
    "It is incorrect to say that B is the answer.", "Rejected: B",
    "{\"answer\": null, \"rejected\": \"B\"}", "C is better than B.", "The answer: B? No.",
    "It's gold-plated.", "B.. no C", "First answer: B", "B is not as good as C.", "A, B, C, D",
    "Answer: A (B is close)", "I can't tell. B?", "B: incorrect", "\\boxed{A \\cup B}", "B. Wrong.",
    "B is as good as C.", "B used to be the answer.", "The answer is anything but gold.",
    "The answer is B-like.", "It would be a mistake to choose B.", "It should not be B.", "B (wait, C)",
    "\\boxed{f(B)}", "Maybe B?", "\\boxed{P(B)}", "I doubt B.", "Second choice: B",
]  # fmt: skip

CORRECTED_TO_D = [
    "The answer is not A but D.", "The answer is not A, but rather D.", "The answer isn't A, it's D.",
    "The answer is not A. It is D.", "Not A, D.", "Not A but D", "It's not A; it's D.", "D, not A.",
    "The answer is D rather than A.", "The answer is D instead of A.", "Rather than A, the answer is D.",
    "The answer is A, no, D.", "The answer is A, wait, D.", "The answer is A... no wait, it's D.",
    "The answer is A. Wait, no, it is D.", "The answer is A. No, the answer is D.", "A? No, D.",
    "I thought A, but it is D.", "At first I thought it was A, but the answer is D.",
    "I first chose A, but D is correct.", "The answer is neither A nor B, it is D.",
    "The answer is neither A nor B but D.", "A is not the answer, D is.", "A is wrong, D is right.",
    "It is D and not A.", "The correct answer is not option A; the correct answer is option D.",
    "The answer is not (A), it is (D).", "The answer is not A or B, it's D.", "The answer is A - sorry, D.",
    "The answer is A, I mean D.", "The answer is A. Correction: D.", "The answer is A, or rather D.",
    "\\boxed{A} no, it is \\boxed{D}", "The answer is not iron, it is lead.",
    "The answer is not iron but lead.", "The answer is A. Actually, it's D.", "A. No, D.",
]  # fmt: skip

BOXES = [  # a response with a formula in its box, and the option that it states
    ("From \\boxed{E=mc^2} we get that the answer is C.", "C"),
    ("\\boxed{PV = nRT}\n\nSo the correct option is C.", "C"),
    ("Since \\boxed{A \\subset B}, the answer is D.", "D"),
    ("Hence \\boxed{\\Delta E > 0}.\n\nFinal answer: B", "B"),
    ("\\boxed{\\frac{dA}{dt} = kB}\nTherefore, C.", "C"),
    ("The value is \\boxed{42}. The answer is C.", "C"),
    ("The value is \\boxed{42}, so the correct option is (C).", "C"),
    ("We find \\boxed{n = 4}.\n\n(C)", "C"),
    ("We find \\boxed{n = 4}.\n\nI'd choose C.", "C"),
    ("We get \\boxed{A+B=C}.\n**D**", "D"),
    ("Answer: D, by \\boxed{F=ma}.", "D"),
    ("By \\boxed{F=ma}, C.", "C"),
    ("\\boxed{x=3} and thus \\boxed{C}", "C"),
    ("\\boxed{C} by \\boxed{C}", "C"),
    ("\\boxed{5}\n\nAnswer: C", "C"),
    ("\\boxed{x}\n\nTherefore the answer is **C**.", "C"),
    ("**Answer: C**\n\nwhere \\boxed{y=2}", "C"),
    ("Answer: C\n\\boxed{5}", None),
    ("C or D.\n\n\\boxed{y=2}", None),
    ("\\boxed{y=2}\n\nIt is not C.", None),
    ("\\boxed{E}", None),
    ("The answer is B. \\boxed{E}", None),
    ("\\boxed{x=3}", None),
    ("Answer: B\n\\boxed{E}", None),
    ("\\boxed{A \\text{ or } B}\nAnswer: B", None),
    ("The answer is A.\n\\boxed{}", None),
    ("\\boxed{A=B}", None),
    ("\\boxed{B > C}", None),
    ("\\boxed{\\text{not } C}", None),
    ("\\boxed{\\Delta B}", None),
    ("\\boxed{B^2}", None),
    ("\\boxed{2B}", None),
]  # fmt: skip


def test_an_option_is_read_from_any_plain_statement_of_it() -> None:
    assert [(r, grade(r).extracted) for r in STATES_C if grade(r) != Verdict(Outcome.CORRECT, "C")] == []


def test_what_denies_doubts_or_holds_open_an_option_does_not_state_it() -> None:
    assert [r for r in NOT_B if grade(r, "B").outcome is Outcome.CORRECT] == []


def test_the_last_word_of_a_corrected_answer_counts() -> None:
    assert [(r, grade(r, "D").extracted) for r in CORRECTED_TO_D if grade(r, "D").extracted != "D"] == []
    assert [r for r in CORRECTED_TO_D if grade(r, "A").outcome is Outcome.CORRECT] == []


@pytest.mark.parametrize(("response", "label"), BOXES)
def test_a_box_with_a_formula_is_no_answer_and_one_without_decides(response: str, label: str | None) -> None:
    read = grade(response, label or "B")
    assert (read.extracted if read.extracted in dict(METALS) else None) == label


@pytest.mark.parametrize(
    ("response", "label"),
    [
        ("The best choice is C", None),
        ("The best choice is C.", "C"),
        ("So, C", None),
        ("C", "C"),
        ("I choose C\n", "C"),
    ],
)
def test_a_statement_that_the_length_limit_may_have_cut_is_none(response: str, label: str | None) -> None:
    assert grade(response, cut=True).extracted == label


def test_labels_are_read_by_what_stands_beside_them() -> None:
    many = (*METALS, ("E", "vitamin C"), ("F", "both A and B"), ("G", "a"), ("H", "none of the above"), ("I", "answer"))
    for response, label in (
        ("The answer is vitamin C.", "E"), ("The answer is both A and B.", "F"), ("It's none of the above.", "H"),
        ("I'd choose both A and B.", "F"), ("The answer is I.", "I"), ("I) answer", "I"), ("I know A lot.", None),
        ("A good answer is hard to find.", None), ("So do I.", None), ("Answer - G", "G"),
    ):  # fmt: skip
        assert grade(response, choices=many).extracted == label, response
    numbers = (("1", "2"), ("2", "3"), ("3", "5"), ("4", "7"))
    assert grade("The best choice is 4.", "4", numbers).extracted == "4"  # 3, 5 and 2 stand for two options
    assert grade("The best choice is 3.", "2", numbers).outcome is not Outcome.CORRECT
    assert grade("The best choice is 7.", "4", numbers).extracted == "4"


def test_the_letters_a_and_i_are_no_mentions_where_no_option_has_them() -> None:
    """They have patterns of their own, as they are words too."""
    numbers = read_options((("1", "iron"), ("2", "gold")))
    for spelled in ("I", "The correct option is I.", "option i", "choice a", "A is best.", "I - the last one", "or I"):
        assert mentions(spelled, numbers) == spelled
    for spelled in ("I", "The correct option is I.", "option i", "I - the last one"):
        assert grade(spelled).outcome is Outcome.UNPARSED
    assert grade("Option I was C. The correct option is C.").extracted == "C"


def test_mentions_have_one_sign_each() -> None:
    options = read_options(METALS)
    for spelled in (
        "(C)",
        "[c]",
        '"C"',
        "**C**",
        "`C`",
        r"\text{C}",
        "$C$",
        "option c",
        "C) tin",
        "tin (C)",
        "（Ｃ）",
        "𝐂",
    ):
        assert mentions(fold(f"It is {spelled}."), options) == "It is \ue002.", spelled
    for spelled in ("C.D. player", "f(C)", "vitamin-C", "C's", "$x + C$"):
        assert "\ue002" not in mentions(spelled, options), spelled


# {0}: the label that is stated, {1}: another. In the second list the first label is named and not stated.
STATED = [
    "{0}", "\"{0}\"", "=> {0}", "So, {0}.", "Answer - {0}", "Final answer\n\n{0}", "The best choice is {0}",
    "My guess is {0}.", "I would say {0}.", "{0} is the answer.", "{0} fits best.", "That leaves {0}.",
    "The answer is not {1}, it is {0}.", "{1}? No, {0}.", "{0}, not {1}.", "The answer is {0} rather than {1}.",
    "{1} is wrong. So the answer is {0}.", r"By \boxed{{x = 3}}, the correct option is {0}.",
    "{0}\n\n{1} is wrong, because it does not fit.",
]  # fmt: skip
NAMED = [
    "{0} or {1}", "The answer is {0} or {1}.", "Both {0} and {1} are correct.", "The answer is {0}. Or maybe {1}.",
    "{0}\n{1}", r"\boxed{{{0}, {1}}}", "<answer>{0} or {1}</answer>", "Some say {0} is correct.",
    "The answer is not {0}.", "Not {0}.", "{0} is wrong.", "I don't think it is {0}.",
    "The least likely answer is {0}.", "Is {0} the answer?", "{0}? No, {1}.", "All but {0} are correct.",
    "The answer is {1}, not {0}.", "{0} is a good choice, but {1} is the best answer.",
    "I thought {0}, but it's {1}.", "The answer is {0}. No, it is {1}.", r"\boxed{{\Delta {0}}}",
    "{0} is true. {1} is true.",
]  # fmt: skip


def rows(name: str) -> list[dict[str, Any]]:
    path = DATA / f"{name}.jsonl"
    if not path.is_file():
        pytest.skip(f"{name} is not at hand")
    return [json.loads(line) for line in path.open(encoding="utf-8")]


@pytest.mark.parametrize("name", ["commonsenseqa_dev", "openbookqa_test", "truthfulqa"])
def test_forms_over_real_options(name: str) -> None:
    read = wrong = 0
    for row in rows(name)[:60]:
        choices = tuple((option["label"], option["text"]) for option in row["choices"])
        gold = row["answer"]
        other = next(label for label, _ in choices if label != gold)
        for stated, beside in ((gold, other), (other, gold)):
            for form in STATED:
                verdict = grade(form.format(stated, beside), gold, choices)
                read += verdict.extracted == stated
                wrong += verdict.outcome is Outcome.CORRECT and stated != gold
        wrong += sum(grade(form.format(gold, other), gold, choices).outcome is Outcome.CORRECT for form in NAMED)
    assert wrong == 0
    assert read >= 0.99 * 2 * len(STATED) * 60
