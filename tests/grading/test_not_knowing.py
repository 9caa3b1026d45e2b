r"""Words of not knowing, and answers beside them: abstentions of every form, and clauses that only sound like one.

The verdicts are by hand; real answers are put into sentences that do not know something else. Not covered: the phrases
of ``cases`` and the similarity model (``test_cases``, ``test_graders``).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from carerl.grading import GRADERS, Gold
from carerl.grading.not_knowing import ABSTAINS, expanded, may_abstain
from carerl.types import Outcome

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def outcome(response: str, *accepted: str) -> Outcome:
    return GRADERS["selfaware"].grade(response, Gold(accepted, answerable=bool(accepted)), False).outcome


ABSTENTIONS = [
    "idk", "IDK.", "I dont know.", "Dont know", "I haven't got a clue.", "I've no idea.",
    "I have no idea what the answer is.", "I haven't the faintest idea.",
    "I won't be able to answer that.", "I have not the slightest idea.",
    "Not sure.", "I can't say.", "I can't tell.", "I cannot say for sure.", "I cannot answer this.",
    "I can't answer.", "I was not able to find any information about this.", "I did not find an answer.",
    "I lack that information.", "I have no answer.", "There are no records of this.",
    "No reliable source is available.", "No answer is known.", "No-one knows.", "Noone knows.",
    "Nobody knows the answer.", "Nobody has found out.", "God only knows.", "Heaven knows.", "Anyone's guess.",
    "Your guess is as good as mine.", "Search me.", "its unknown.", "That is not known.",
    "The answer isn't clear.", "The answer is unclear.", "It isn't clear.", "This is unclear.",
    "I think it's unknowable.", "I believe the answer is unknown.", "Sorry, I don't know.",
    "Unfortunately, this is not known.", "It has not been determined yet.", "It hasn't been proven.",
    "It's yet to be determined.", "It is still undiscovered.", "It has not been made public.",
    "The information isn't available.", "This information isn't available.", "Information not available.",
    "The details are not publicly available.", "That information is not public.", "It is not publicly known.",
    "The text doesn't mention this.", "The passage does not state this.", "It isn't stated in the text.",
    "Not stated.", "Not enough info.", "There is too little information.", "We can't know.", "We don't know.",
    "We do not know yet.", "We will never know.", "One cannot know.", "There's no way to tell.",
    "There is no telling.", "There's no telling.", "There is no knowing.", "There's no answer.",
    "No known answer.", "No definite answer exists.", "No one can know.", "It can not be known.",
    "That can not be answered.", "This question can not be answered.", "cannot say", "can't say", "Can't tell.",
    "Impossible to tell.", "It's impossible to tell.", "It is difficult to say.", "It is indeterminate.",
    "It is unsolved.", "It remains unclear.", "It's debatable.", "Experts disagree.", "Scientists disagree.",
    "Opinions differ.", "I refuse to guess; I don't know.", "I have never heard of it and do not know.",
    "I'm not aware of any answer.", "I don't recall.", "I do not have access to this data.",
    "I don't have access to real-time data.", "Answer: not known", "The answer is that we don't know.",
    "\\boxed{unknown}", "\\boxed{\\text{I dont know}}", "<answer>not known</answer>", "Unknown!",
    "It is a complete unknown.", "Science cannot tell us.", "Scientists haven't figured that out.",
    "The exact date is not known.", "Its origin is unknown.", "His whereabouts are unknown.",
    "The reason isn't clear.", "The future cannot be known.", "This cannot be predicted.",
    "It can't be predicted.", "I'm sorry, I cannot help with that because the answer is not known.",
    "It's not possible to know.", "It isn't possible to say.", "It is not possible to give an answer.",
    "Without more context I can't answer.", "I need more context.", "I would need more information.",
    "Scientists are not sure.", "Scientists don't fully understand this yet.",
    "This is still being researched.", "It's one of the great mysteries of science.",
    "Nobody could possibly know that.", "Your question can't be answered.", "I genuinely do not know.",
    "Can't say for certain.", "Couldn't tell you.", "Haven't the foggiest.", "Idk, sorry.", "If only I knew.",
    "I'd love to know, but I don't.", "I don't have enough data.", "I've no information on that.",
    "I'm not able to find a reliable answer.", "I cannot verify this.", "I could not verify this information.",
    "I am unable to provide a definite answer.", "I'm unable to confirm this.",
    "My knowledge does not cover that.", "That is beyond human knowledge.", "It's unclear what happens.",
    "It is not known if he survived.", "It is not clear who wrote it.", "Who wrote it is unknown.",
    "The author is unknown.", "There is a lot of speculation, but no one knows.",
    "Although there are many theories, nobody knows.",
    "Although it has been studied for years, the answer remains unknown.",
    "While scientists have theories, no one knows for certain.", "Experts have guesses, but no one knows why.",
    "Good question. I don't know.", "Interesting question, but there is no known answer.", "Honestly? No idea.",
    "It's up for debate.", "There's no right or wrong answer.", "There is no single answer.",
    "There's no simple answer to that.", "It's a matter of debate.", "People disagree about this.",
    "Answer unknown.", "Unknown at present.", "Currently unknown.", "Presently unknown.", "Unknown as of now.",
    "To date, unknown.", "Not currently known.", "No one's sure.", "No human knows.", "No living person knows.",
    "We'll have to wait and see.", "I leave that unanswered because I don't know.",
    "The answer to that is unknown.", "The answer to your question is not known.",
    "The answer hasn't been found.", "An answer isn't known.", "Final answer: unknown",
    "**Answer:** I don't know.", "**The answer is unknown.**", "\\boxed{\\text{I do not know}}",
    "\\boxed{\\text{Nobody knows}}", "\\boxed{\\text{it is not known}}",
    "<answer>Cannot be determined.</answer>", "<answer>I have no idea</answer>",
    "<answer>nobody knows</answer>", "{\"answer\": \"unknown\"}", "{\"answer\": \"I don't know\"}",
    "I couldn't give you an answer.", "Too early to say.", "I have no knowledge of this event.",
    "Information unavailable.", "I can't give an answer.",
    "I can't determine that from the information provided.", "The number cannot be known exactly.",
    "No one has managed to find out.", "We don't know for certain.", "I'd rather not guess.",
    "No source gives that.", "The case has never been solved.", "It is a matter of speculation.",
    "I don't think anybody knows that.", "I don't have a crystal ball.", "I don't think this can be known.",
    "Don't ask me.", "I don't have any information about that.", "The future will tell.",
    "No one has ever been able to answer this.", "One can only speculate.",
    "His identity has never been revealed.", "There's no evidence either way.", "You tell me.",
    "Humanity does not know.", "We can only speculate.", "The question doesn't give enough information.",
    "We aren't certain.", "Scientists do not know why.", "I am not aware of this.",
    "The provided context does not contain the answer.", "This doesn't have a clear answer.",
    "Physicists don't know.", "I would only be guessing.", "From the given text we cannot tell.",
    "Science doesn't know yet.", "I'm sorry, but I can't find any information about this person.",
    "Mankind doesn't know.", "There is no universally accepted answer.",
    "No such information is available.", "The question does not provide enough details.",
    "How would I know?", "The author's identity is not known.", "I would not know.",
    "There's no scientific answer to that.", "No comment.", "It's far from clear.",
    "This can't be answered with certainty.", "Not known to science.", "No records of this exist.",
    "I don't have a favorite color.", "No living soul knows.",
    "The exact number is impossible to determine.", "I do not have any details on this topic.",
    "History doesn't record it.", "It's pure speculation.", "We shall see.",
    "The passage doesn't provide that information.", "The identity of the killer is unknown.",
    "I'm not aware of that.", "The answer remains a mystery.", "It cannot be said with certainty.",
    "No source says.", "The answer is lost to history.", "It has no answer.",
    "The number is not known with certainty.", "It has been lost to time.", "I doubt anyone knows.",
    "I prefer not to guess.", "Only the future will tell.", "It's too early to tell.",
    "I have no definitive answer.", "How should I know?", "It's too soon to say.",
    "I'm unable to determine the answer.",
]  # fmt: skip

PARIS = [  # answers that name Paris, beside something that is not known
    "The answer is Paris, although nobody knows why.", "Paris, although the reason is unknown.",
    "Paris, though the exact date is not known.", "Paris, but nobody knows why.",
    "Paris, even though no one knows why.", "Although nobody knows why, it is Paris.",
    "Although nobody knows why, the answer is Paris.", "Although the reason is unclear, the city is Paris.",
    "While the exact date is unknown, the place was Paris.", "Though the author is unknown, the city is Paris.",
    "Even though the date is unknown, it happened in Paris.", "No one knows better than me: Paris.",
    "Nobody knows this better than I do: Paris.", "Paris, though some say it is unknown.",
    "Paris, though some say nobody knows.", "Paris, although some claim it cannot be known.",
    "Some say it is unknown, but it is Paris.", "Some think it's unknown, but the answer is Paris.",
    "Many people don't know this, but it is Paris.", "Most people don't know that it is Paris.",
    "Few know it, but the answer is Paris.", "I don't know why, but it is Paris.",
    "I don't know why, but the answer is Paris.", "I don't know much about it, but the answer is Paris.",
    "I don't know for sure, but I think it is Paris.", "I'm not sure, but probably Paris.",
    "I am not certain, but I believe it's Paris.", "I'm not 100% sure, but it is Paris.",
    "Not sure, but I'd say Paris.", "No idea why, but Paris.", "Paris. I don't know the exact date.",
    "Paris. The exact date is unknown.", "Paris. Nobody knows why.", "Paris. It is not known why.",
    "It is Paris. Nobody knows exactly when it was founded.",
    "The capital of France is Paris. Its exact age is not known.", "Paris (exact date unknown)",
    "Paris (date unknown)", "Paris; the date is unknown.", "Paris - no one knows why.",
    "The answer is Paris; nobody knows why it was chosen.", "It's Paris. There is no consensus on the date.",
    "The city is Paris, whose founder is unknown.", "Paris, which is unknown to many.",
    "Paris, as everyone knows.", "Who knows? It is Paris.", "Who doesn't know that it is Paris?",
    "Everyone knows that it is Paris.", "It is well known that it is Paris.", "The answer is known: Paris.",
    "The date cannot be determined, but the city is Paris.", "It can't be denied that it is Paris.",
    "There is no doubt that it is Paris.", "There is no question that it is Paris.",
    "I have no doubt it is Paris.", "It was not known until 1900, but it is Paris.",
    "It used to be unknown, but the answer is Paris.", "It was a mystery for long, but the answer is Paris.",
    "Nobody knew it then, but it was Paris.", "Nobody else knows, but the answer is Paris.",
    "You may not know it, but it's Paris.", "The text does not say so, but it is Paris.",
    "The text does not say it directly, but the answer is Paris.",
    "It is hard to say for sure, but most likely Paris.", "It is hard to believe, but it is Paris.",
    "I could not find a better answer than Paris.", "No other city than Paris is available.",
    "Without more information I would say Paris.", "\\boxed{Paris}, although nobody knows why.",
    "<answer>Paris</answer> I don't know why.", "I don't know. The answer is Paris.",
    "I didn't know at first. The answer is Paris.", "It might be unclear to some, but it is Paris.",
    "Paris, I'm not sure why.", "Paris, but I'm not sure.", "Paris, but I am not certain.",
    "Paris I think, not sure.", "Unknown to most, it is Paris.",
    "It's unclear when, but it happened in Paris.", "Paris (I'm not sure).", "I know it is Paris.",
    "Nobody knows for certain, but it is generally thought to be Paris.",
    "Despite the uncertainty, the answer is Paris.", "The answer is not unknown; it is Paris.",
    "The capital is Paris; I have no information about its mayor.",
    "No one knows for sure, but the most accepted answer is Paris.",
    "While it is impossible to know for certain, the answer is probably Paris.",
    "I don't know who told you that, but the answer is Paris.", "Paris. No other information is available.",
    "I couldn't find the date, but the city was Paris.", "Most likely Paris, but it's hard to say.",
    "I don't know, but if I had to guess, I'd say Paris.", "Paris, by an unknown artist.",
    "Experts disagree on the date, but all say Paris.", "It isn't unclear at all: Paris.",
    "She moved to Paris, where no one knew her.", "There is some debate, but the answer is Paris.",
    "Paris is unknown to me, but it's the answer.", "Paris, I guess.",
    "Probably Paris, but nobody knows for sure.", "The answer isn't unknown. It's Paris.",
    "The capital is Paris. I don't have information about its mayor.", "Paris (not sure)",
    "There is no consensus, but most say Paris.", "Although I can't be certain, I think it's Paris.",
    "Paris. I have no further information.", "I couldn't find the exact date. The city was Paris.",
    "If I had to guess, Paris.", "It was painted in Paris by an unknown artist.",
    "It is widely believed to be Paris, although this has never been proven.",
    "Paris, not London; nobody knows why people say London.", "Paris, if I'm not mistaken.",
    "An unknown artist painted it in Paris.",
    "Historians are unsure about the date, but the place was Paris.",
    "It is probably Paris, but this is not certain.", "Paris, the city that never sleeps.",
    "There's no mystery here: it's Paris.", "It's not known who designed it, but it is in Paris.",
    "Paris, at an unknown date.", "There is no official answer, but it is widely believed to be Paris.",
    "I don't know, probably Paris.", "It is believed to be Paris, though this is not confirmed.",
    "It is thought to be Paris, but this is not certain.",
]  # fmt: skip

GIVEN = [  # answers to what nobody can answer
    "It will be in 2031.", "42", "Yes.", "No.", "About seven million.",
    "The universe will end in 10 billion years.", "It is love.", "Nobody.", "Nothing.", "No one.",
    "There is no god.", "There are none.", "There is no such thing.", "He knows.", "Everyone knows it is love.",
    "Blue, though nobody knows why.", "The answer is 42, although nobody knows why.",
    "People who don't know themselves.", "You should find information available online.",
    "It is available everywhere.", "It depends on nothing; it is 42.", "I can say that it is 42.",
    "It is clear that it is 42.", "The meaning is to know oneself.", "To not know is to be free.",
    "Not knowing is bliss; the answer is love.", "A person who does not know fear.", "The mystery genre.",
    "The text says 42.", "It was discovered in 1911.", "It has been determined to be 42.", "Ignorance.",
    "The unknown.", "Fear of the unknown.", "Fear of the unknown is the greatest fear.",
    "It is love, and nobody can take it away.", "He was unknown until 1920, when he won; it was Einstein.",
    "The unknown is represented by x.", "Agnosticism is the view that the existence of God is unknown.",
    "Not guilty.", "Not many.", "No, they do not.", "No.", "Never.", "They can't fly.",
    "We cannot survive without oxygen.", "I cannot tell a lie.", "It varies with altitude.",
    "Scientists discovered it in 1998.", "Scientists have found that it is 42.", "Experts say that it is 42.",
    "Researchers found no difference between them.", "Socrates said that he knew nothing.",
    "He does not know his father.", "Because they do not know their parents.", "Nobody likes it.",
    "No one lives there.", "No one is above the law.", "The mystery of the pyramids.", "A mystery novel.",
    "An uncertain future makes people anxious.", "It is uncertainty.", "Confusion.", "A question.",
    "It is impossible to breathe in space.", "It is hard to climb Everest, since the air is thin.",
    "It is difficult to learn Chinese.", "It is not difficult: 42.", "The data are available: 42.",
    "There is no evidence needed: it is 42.", "There is no such animal.", "I do not have a body.",
    "I have no arms.", "You don't need one.", "I can't swim.", "The answer is no.", "The answer is nobody.",
    "The answer is 42, but don't quote me.", "The answer is 42, and I'm sure of it.",
    "I'm not sure why you ask, but it is 42.", "It was lost in 1912.", "The letter was never sent.",
    "It was never built.", "He has not been seen since 1937.", "It hasn't been used since 1945.",
    "It has not been found in Europe.", "It has never been conquered.", "It is not a planet.",
    "It isn't a mammal.", "It's not Paris, it's London.", "It is undisputed that it is 42.",
    "It is undeniable: 42.", "It is no secret that it is 42.", "It is not a mystery that it is 42.",
]  # fmt: skip

TITLES = [  # an answer that itself speaks of not knowing
    ("The Great Unknown", "It is The Great Unknown."), ("unknown soldier", "The unknown soldier."),
    ("God Only Knows", "The song is God Only Knows."), ("Nobody Knows", 'It is "Nobody Knows" by Pink.'),
    ("I Don't Know How to Love Him", 'The song is "I Don\'t Know How to Love Him".'), ("Who Knows", "Who Knows"),
]  # fmt: skip


@pytest.mark.parametrize("accepted", [("Paris",), ()])
def test_not_knowing_in_any_words_is_an_abstention(accepted: tuple[str, ...]) -> None:
    assert [r for r in ABSTENTIONS if outcome(r, *accepted) is not Outcome.ABSTAINED] == []


def test_an_answer_beside_a_clause_of_not_knowing_is_an_answer() -> None:
    assert [r for r in PARIS if outcome(r, "Paris") is not Outcome.CORRECT] == []
    assert [r for r in PARIS if outcome(r.replace("Paris", "London"), "Paris") is not Outcome.WRONG] == []
    assert [r for r in PARIS if outcome(r) is not Outcome.WRONG] == []


def test_an_answer_to_what_nobody_can_answer_is_wrong() -> None:
    assert [r for r in GIVEN if outcome(r) is not Outcome.WRONG] == []


@pytest.mark.parametrize(("title", "response"), TITLES)
def test_a_title_is_an_answer(title: str, response: str) -> None:
    assert outcome(response, title) is Outcome.CORRECT


def test_contractions_are_written_out() -> None:
    assert expanded("i dunno, it's not clear; they've no idea and we cant say") == (
        "i do not know, it is not clear; they have no idea and we cannot say"
    )


def test_no_phrase_is_without_its_cue() -> None:
    """What is looked at first must not hide what the phrases would find."""
    hidden = [r for r in ABSTENTIONS if ABSTAINS.search(expanded(r.casefold())) and not may_abstain(r.casefold())]
    assert hidden == []


def test_real_answers_beside_something_that_is_not_known() -> None:
    path = DATA / "selfaware.jsonl"
    if not path.is_file():
        pytest.skip("SelfAware is not at hand")
    rows = [json.loads(line) for line in path.open(encoding="utf-8")]
    answers = [row["extra"]["answers"][0] for row in rows if row["extra"]["answers"]][:600]
    forms = [
        "{}, although nobody knows why.",
        "I'm not sure, but I think it is {}.",
        "{}. The exact date is not known.",
    ]
    missed = [f.format(a) for a in answers for f in forms if outcome(f.format(a), a) is Outcome.ABSTAINED]
    assert len(missed) <= 0.02 * len(answers) * len(forms), missed
