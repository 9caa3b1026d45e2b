"""A method's pass over a suite, with real workers and the plain engine: what is asked of engines, what is kept while
thresholds are learned, how long it took, and what is said in the end.

The trees themselves are ``test_decoding``'s, refusals ``config/check/test_decoding``'s.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from carerl.controller.decoding import planned
from carerl.controller.decoding.drawing import Drawing
from carerl.controller.decoding.idle import idle
from carerl.errors import ConfigError
from carerl.inference.base import Branch, Decoded
from carerl.inference.methods import METHODS
from carerl.inference.steps import TextSplitter
from carerl.runs.decoded import Answered
from carerl.runs.thresholds import read_thresholds
from carerl.runs.traces import TraceStore
from carerl.tasks import Suite
from carerl.tasks.benchmarks.config import TextConfig
from carerl.types import Outcome
from tests.actors.local import without_ray
from tests.backends.model_directories import untrained_base
from tests.controller.test_decoding import BUDGET, Decoding, trees


@pytest.fixture(scope="module")
def base_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch)


def test_responses_of_a_stopped_validation_are_not_asked_for_again(base_dir: Path, tmp_path: Path) -> None:
    """One response at a time, so that it is known which have ended."""
    decoding = Decoding(base_dir, "decode.methods=[cat]", BUDGET, "rollout.max_batch_rows=1", "questions=1")
    assert decoding.plan.validation is not None
    held_out = decoding.plan.validation.examples
    whole = tmp_path / "whole"
    decoding.run(whole)
    decoding.asked.clear()
    assert decoding.run(tmp_path, stop_after=4) == {}
    kept = TraceStore(tmp_path, 0).finished(held_out)
    assert 0 < len(kept) < len(held_out) - 1
    others = [replace(example, prompt_ids=(*example.prompt_ids, 4)) for example in held_out]
    assert TraceStore(tmp_path, 0).finished(others) == {}, "other prompts have other responses"
    decoding.asked.clear()
    decoding.run(tmp_path)
    left = [example.prompt_ids for number, example in enumerate(held_out) if number not in kept]
    asked = [request.prompt_ids for _, request in decoding.asked]
    assert asked[: len(left)] == left and asked[len(left)] == decoding.plan.suites[0].examples[0].prompt_ids
    assert read_thresholds(tmp_path, 0) == pytest.approx(read_thresholds(whole, 0), abs=1e-6)
    assert not list(tmp_path.glob("*traces*")), "they have served"


def test_engines_compute_spreads_for_methods_that_read_them_alone(base_dir: Path, tmp_path: Path) -> None:
    """And tokens are the same with them and without."""
    plain = Decoding(base_dir, "decode.methods=[greedy,self_consistency]", BUDGET)
    found = plain.run(tmp_path / "plain")
    assert {request.top for _, request in plain.asked} == {0}
    unsure = Decoding(base_dir, "decode.methods=[self_certainty]", BUDGET, "decode.top=7")
    certain = unsure.run(tmp_path / "unsure")
    assert {request.top for _, request in unsure.asked} == {7}
    for (suite, _, number), (shape, *_) in trees(certain).items():
        assert shape == trees(found)[suite, "self_consistency", number][0]


def test_seconds_of_questions_add_up_to_the_time_of_the_pass(base_dir: Path) -> None:
    """However many responses are drawn beside each other, and however many questions end in one round."""
    decoding = Decoding(base_dir, "decode.methods=[self_consistency]", BUDGET)
    (suite, *_), time = decoding.plan.suites, 100.0
    drawing = Drawing(decoding.crew.engines, decoding.plan, 40, 0, now=lambda: time)
    for number, example in enumerate(suite.examples):
        context = replace(decoding.plan.context(suite, number), max_new_tokens=40)
        drawing.begin(number, example.prompt_ids, METHODS["self_consistency"].build(context))
    ended = []
    while drawing:
        time += 1.0
        ended += drawing.advance()
    drawing.end()
    assert len(ended) == len(suite.examples) == 3 and time > 101
    assert sum(one.seconds for one in ended) == pytest.approx(time - 100)


def test_methods_sample_at_the_evaluation_s_temperature_unless_they_have_their_own(base_dir: Path) -> None:
    for words, wanted in (
        ([], 1.0),
        (["temperature=0.6"], 0.6),
        (["temperature=0.6", "decode.temperature=1.3"], 1.3),
        (["temperature=0", "decode.temperature=1.3"], 1.3),
    ):
        plan = Decoding(base_dir, "decode.methods=[greedy,self_certainty]", BUDGET, *words).plan
        context = plan.context(plan.suites[0], 0)
        asked = {name: {ask.temperature for ask in next(METHODS[name].build(context))} for name in plan.decode.methods}
        assert asked == {"greedy": {0.0}, "self_certainty": {wanted}}


def test_it_is_said_where_nothing_was_pruned(base_dir: Path, tmp_path: Path) -> None:
    said: dict[str, list[str]] = {}
    for threshold in ("0", "0.9"):
        decoding = Decoding(base_dir, "decode.methods=[cat]", BUDGET, f"decode.cat.threshold={threshold}")
        found = decoding.run(tmp_path / threshold, say=said.setdefault(threshold, []).append)
        branches = [b for of in found.values() for one in of["cat"] for b in one.decoded.branches]
        assert any(branch.pruned for branch in branches) == (threshold == "0.9")
    assert [line.partition(",")[0] for line in said["0"]] == ["q3", "q2"]
    assert all("was pruned" in line and "threshold 0 (decode.cat.threshold)" in line for line in said["0"])
    assert said["0.9"] == []


def answered(steps: tuple[int, ...], rounds: int = 1, **facts: float) -> Answered:
    decoded = Decoded((Branch((0,), (5, 6, 7), 3, steps=steps),), 0, 1.0, 3, rounds, facts)
    return Answered("a", decoded, (Outcome.CORRECT,), "vote", 1.0)


def test_a_delimiter_that_no_response_has_is_named(base_dir: Path) -> None:
    plan = replace(
        Decoding(base_dir, "decode.methods=[cat]", BUDGET).plan, splitter=TextSplitter(b"\n\n", {5: b"\n\n"})
    )
    one, two = answered((3,), threshold=0.9), answered((2, 3), threshold=0.9)
    assert r"delimiter '\n\n'" in idle("cat", [one, one], plan)
    said = idle("cat", [one, two], plan)
    assert "delimiter" not in said and "0.9 (decode.cat.quantile)" in said
    rescued = answered((2, 3), rounds=2, threshold=0.9)
    assert idle("cat", [one, rescued], plan) == "", "its only branch fell below, and went on"
    assert idle("self_consistency", [one], plan) == idle("cat", [], plan) == ""


def test_it_is_said_where_deepconf_had_nothing_to_judge(base_dir: Path) -> None:
    plan = Decoding(base_dir, "decode.methods=[cat]", BUDGET).plan
    short, long = answered((3,), judged=0, window=512), answered((3,), judged=1, window=512)
    assert "group of 512 tokens" in idle("deepconf", [short, short], plan)
    assert idle("deepconf", [short, long], plan) == ""


def test_other_data_than_the_thresholds_are_learned_on_are_named(base_dir: Path) -> None:
    made = Decoding(base_dir, "decode.methods=[cat,self_certainty]", BUDGET).plan
    assert made.warning == "", "a task's own questions"

    def warning(train: str, *suites: str, **decode: object) -> str:
        config = replace(made.config, task=TextConfig(train=train), decode=replace(made.config.decode, **decode))
        return replace(made, config=config, suites=tuple(Suite(name, ()) for name in suites)).warning

    assert warning("gsm8k_train", "gsm8k") == warning("math_train", "math500", "math_test") == ""
    said = warning("math_train", "math500", "gsm8k", "aime24")
    assert "of math_train, which is other data than gsm8k, aime24; task.train=gsm8k_train" in said
    assert "task.train" not in warning("math_train", "aime24"), "there is nothing to train on"
    assert warning("math_train", "gsm8k", methods=["self_consistency"]) == ""


@pytest.mark.parametrize(
    ("train", "benchmark", "wanted"),
    [
        ("", "gsm8k", "task.train=gsm8k_train "),
        ("math_train", "gsm8k", "task.train=gsm8k_train "),
        ("", "aime24", "task.train=NAME "),
        ("math_train", "math500", ""),
        ("math_train", "aime24", ""),
    ],
)
def test_the_remedy_holds_out_questions_of_the_data_that_is_evaluated(
    base_dir: Path, train: str, benchmark: str, wanted: str
) -> None:
    decoding = Decoding(base_dir, "decode.methods=[cat]", BUDGET, "task.validation_questions=0", planning=False)
    config = replace(decoding.config, task=TextConfig(train=train, benchmarks=[benchmark]))
    with pytest.raises(ConfigError, match="cat would learn a threshold") as caught:
        planned(config, decoding.task, None, [])
    assert f"write {wanted}task.validation_questions=64" in caught.value.remedy
    assert "deepconf" not in caught.value.remedy
