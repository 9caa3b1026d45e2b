"""Decoding with real workers and the plain engine, all in this process: what is drawn, graded, kept and refused.

What methods make of traces is ``tests/inference``'s; Ray, vLLM and the command are ``e2e/test_decoding``'s."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from carerl.actors.crew import EvaluationCrew
from carerl.actors.handles.engines import Engines
from carerl.actors.handles.graders import Graders
from carerl.actors.workers.engine import EngineWorker
from carerl.actors.workers.grader import GraderWorker
from carerl.backends.engines import Request
from carerl.config.evaluate import evaluation_config
from carerl.config.load import load
from carerl.controller.decoding import Plan, decode, planned
from carerl.controller.decoding.answers import Found
from carerl.controller.evaluation import chosen
from carerl.errors import ConfigError
from carerl.inference.context import path_seed
from carerl.runs.decoded import Answered, DecodedStore, by_method, read_decoded
from carerl.runs.decoding import measures
from carerl.runs.thresholds import read_thresholds
from carerl.tasks import TASKS
from carerl.tasks.base import VALIDATION
from carerl.tasks.tiny.tokenizer import EOS, make_tokenizer
from carerl.types import Outcome, Sampling
from tests.actors.local import Local, without_ray
from tests.backends.model_directories import untrained_base

METHODS = ("greedy", "self_consistency", "self_certainty", "deepconf", "cat")
ALL = f"decode.methods=[{','.join(METHODS)}]"
K = 4
WORDS = ["engine=hf", "samples=1", "questions=3", "rollout.max_batch_rows=8", "task.validation_questions=6"]
BUDGET, WARMUP = f"decode.budget={K}", "decode.deepconf.warmup=2"


@pytest.fixture(scope="module")
def base_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model of the tiny world, untrained: its responses have no form, so the steps are many and unsure."""
    return untrained_base(tmp_path_factory.mktemp("base"))


class Decoding:
    """An evaluation that decodes two suites, through workers of this process. ``asked``: every request that an engine
    got, with its engine."""

    def __init__(self, base_dir: Path, *words: str, engines: int = 1, planning: bool = True) -> None:
        self.config = evaluation_config([f"model={base_dir}", *WORDS, *words])
        self.task: Any = TASKS["tiny"].build(self.config.task, self.config.seed)
        self.asked: list[tuple[int, Request]] = []
        actors = [Local(EngineWorker(), self._noting(k)) for k in range(engines)]
        graders = Graders([Local(GraderWorker())])
        self.crew = EvaluationCrew(engines=Engines(actors), graders=graders, actors=[])
        if not planning:
            return
        self.crew.load(self.config, self.config.model.path)
        self.crew.engines.use_loaded()
        suites = [suite for suite in chosen(self.config, self.task, 3) if suite.name in ("q3", "q2", VALIDATION)]
        plan = planned(self.config, self.task, make_tokenizer(), suites)
        assert plan is not None
        self.plan: Plan = plan

    def _noting(self, engine: int) -> Callable[[str, tuple[Any, ...]], None]:
        def before(method: str, arguments: tuple[Any, ...]) -> None:
            if method == "submit":
                self.asked += [(engine, request) for request in arguments[0]]

        return before

    def run(self, directory: Path, stop_after: int | None = None, say: Callable[[str], None] = print) -> Found:
        """Returns what is on disk in the end, with its tokens; of a run that is stopped, after so many calls of
        progress, what :func:`decode` returned. ``returned``: that always."""
        store = DecodedStore(directory, 0, written)
        told = 0

        def progress(ended: Sequence[Answered]) -> bool:
            nonlocal told
            told += 1
            return stop_after is None or told < stop_after

        self.returned = decode(self.crew, self.plan, store, directory, lambda name: progress, say)
        if stop_after is not None:
            store.write_part()
            return self.returned
        store.close()
        return {
            suite: {method: [one.answered for one in of] for method, of in methods.items()}
            for suite, methods in by_method(read_decoded(directory, 0)).items()
        }


def written(ids: list[int]) -> str:
    return " ".join(map(str, ids))


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch)


@pytest.fixture(scope="module")
def whole(base_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Decoding, Found, Path]]:
    """One whole run, which tests compare others with."""
    place = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        without_ray(patch)
        decoding = Decoding(base_dir, ALL, BUDGET, WARMUP)
        yield decoding, decoding.run(place), place


def tree(one: Answered) -> Any:
    """The tree but for its floats, whose last digits depend on what shares a batch."""
    shape = [(b.path, b.parent, b.own, b.token_ids, b.steps, b.pruned, b.answer) for b in one.decoded.branches]
    return shape, one.outcomes, one.decoded.winner, one.decoded.rounds


def trees(found: Found) -> dict[tuple[str, str, int], Any]:
    return {(suite, method, number): tree(one) for suite, method, number, one in questions(found)}


def floats(found: Found) -> list[float]:
    """How sure everything was."""
    branches = [branch for *_, one in questions(found) for branch in one.decoded.branches]
    return [value for branch in branches for value in (branch.weight, *branch.confidences)]


def questions(found: Found) -> list[tuple[str, str, int, Answered]]:
    return [(s, m, k, one) for s, methods in found.items() for m, of in methods.items() for k, one in enumerate(of)]


def test_every_question_is_answered_by_every_method_and_all_are_kept(whole: tuple[Decoding, Found, Path]) -> None:
    decoding, found, place = whole
    assert {(s, m, k) for s, m, k, _ in questions(found)} == {
        (suite, method, k) for suite in ("q3", "q2") for method in METHODS for k in range(3)
    }, "validation questions are no suite of their own"
    stored = {(one.suite, one.method, one.number): one.answered for one in read_decoded(place, 0)}
    returned = {(s, m, k): one for s, m, k, one in questions(decoding.returned)}
    assert {key: one.without_tokens() for key, one in stored.items()} == returned
    assert not any(b.token_ids for one in returned.values() for b in one.decoded.branches), "the disk has them"
    assert measures(decoding.returned) == measures(found), "no figure needs tokens"
    for _, method, _, one in questions(found):
        branches = one.decoded.branches
        assert (
            sum(branch.own for branch in branches) == one.decoded.tokens <= K * decoding.config.rollout.max_new_tokens
        )
        assert len(branches) == (1 if method == "greedy" else K) or method == "cat"
        assert [outcome is None for outcome in one.outcomes] == [branch.pruned for branch in branches]
    assert any(branch.pruned for *_, one in questions(found) for branch in one.decoded.branches)


def test_responses_are_those_of_the_question_s_own_seeds_and_the_grader_s_answers(
    whole: tuple[Decoding, Found, Path],
) -> None:
    """Plain samples are what the engine gives for the seeds of the tree's roots, asked for alone."""
    decoding, found, _ = whole
    for suite in decoding.plan.suites:
        for number, example in enumerate(suite.examples):
            seed = decoding.plan.context(suite, number).seed
            asks = [Request(k, example.prompt_ids, seed=path_seed(seed, (k,))) for k in range(K)]
            limit = decoding.config.rollout.max_new_tokens
            drawn = decoding.crew.engines.complete(asks, Sampling(1, 1.0, limit, 0, stop_ids=(EOS,)))
            one = found[suite.name]["self_consistency"][number]
            assert [branch.token_ids for branch in one.decoded.branches] == [c.token_ids for (c,) in drawn]
            again = found[suite.name]["self_certainty"][number]
            assert [b.token_ids for b in again.decoded.branches] == [b.token_ids for b in one.decoded.branches]
            for branch, outcome in zip(one.decoded.branches, one.outcomes, strict=True):
                assert (outcome, branch.answer) == decoding.task.grade(example, branch.token_ids, branch.truncated)
            assert one.right == (one.decoded.winner >= 0 and one.outcomes[one.decoded.winner] is Outcome.CORRECT)


def test_a_fork_goes_on_from_what_it_shares(whole: tuple[Decoding, Found, Path]) -> None:
    """Its own tokens are what the engine gives after prompt and shared tokens for the seed of its place; of a pruned
    branch the first of them."""
    decoding, found, _ = whole
    limit, forks = decoding.config.rollout.max_new_tokens, 0
    for suite in decoding.plan.suites:
        for number, example in enumerate(suite.examples):
            context = decoding.plan.context(suite, number)
            for branch in found[suite.name]["cat"][number].decoded.branches:
                shared = len(branch.token_ids) - branch.own
                seed = path_seed(context.seed, branch.path)
                prompt = (*example.prompt_ids, *branch.token_ids[:shared])
                ask = Request(0, prompt, seed=seed, max_new_tokens=limit - shared)
                (((one,),),) = [decoding.crew.engines.complete([ask], Sampling(1, 1.0, limit, 0, stop_ids=(EOS,)))]
                own = branch.token_ids[shared:]
                rescued = branch.pruned is False and one.token_ids[: len(own)] != own
                assert rescued or (own == one.token_ids[: len(own)] if branch.pruned else own == one.token_ids)
                forks += branch.parent >= 0 and not rescued
    assert forks > 3


@pytest.mark.parametrize("stop_after", [1, 2, 5, 13, 21])
def test_decoding_stopped_anywhere_and_resumed_is_the_one_never_stopped(
    base_dir: Path, whole: tuple[Decoding, Found, Path], tmp_path: Path, stop_after: int
) -> None:
    decoding, found, place = whole
    before = len(decoding.asked)
    decoding.asked.clear()
    first = decoding.run(tmp_path, stop_after)
    kept = DecodedStore(tmp_path, 0, written)
    ended = sum(len(kept.finished(s.name, m, s.examples)) for s in decoding.plan.suites for m in METHODS)
    assert len(questions(first)) == ended < len(questions(found))
    asked_first = len(decoding.asked)
    again = decoding.run(tmp_path)
    assert trees(again) == trees(found)
    assert floats(again) == pytest.approx(floats(found), abs=1e-5)
    assert read_thresholds(tmp_path, 0) == read_thresholds(place, 0)
    cut_off = 8 * K  # requests of the questions that were under way: a batch, and what is queued
    assert len(decoding.asked) <= before + cut_off
    assert asked_first < len(decoding.asked)


def test_what_is_decoded_depends_on_no_batch_no_engine_and_no_other_method(
    base_dir: Path, whole: tuple[Decoding, Found, Path], tmp_path: Path
) -> None:
    """And the branches of a question are on one engine, which has their beginnings in its cache."""
    _, found, _ = whole
    other = Decoding(
        base_dir, "decode.methods=[cat]", BUDGET, "rollout.max_batch_rows=3", "rollout.actors=2", engines=2
    )
    again = other.run(tmp_path)
    assert trees(again) == {key: shape for key, shape in trees(found).items() if key[1] == "cat"}
    held_out = {example.prompt_ids for example in (other.plan.validation.examples if other.plan.validation else ())}
    for suite in other.plan.suites:
        for prompt in (example.prompt_ids for example in suite.examples if example.prompt_ids not in held_out):
            homes = [engine for engine, request in other.asked if request.prompt_ids[: len(prompt)] == prompt]
            assert len(homes) >= K and len(set(homes)) == 1
    assert {engine for engine, _ in other.asked} == {0, 1}


def test_thresholds_are_learned_on_validation_questions_once(
    base_dir: Path, whole: tuple[Decoding, Found, Path], tmp_path: Path
) -> None:
    _, _, place = whole
    decoding = Decoding(base_dir, "decode.methods=[cat,deepconf]", BUDGET, "decode.deepconf.warmup=0")
    held_out = next(suite for suite in decoding.task.suites() if suite.name == VALIDATION)
    assert decoding.run(tmp_path, stop_after=1) == {}
    assert not read_thresholds(tmp_path, 0), "stopped before they were known"
    found = decoding.run(tmp_path)
    asked = [request.prompt_ids for _, request in decoding.asked[: len(held_out.examples)]]
    assert sorted(asked) == sorted(example.prompt_ids for example in held_out.examples)
    learned = read_thresholds(tmp_path, 0)
    assert set(learned) == {"cat", "deepconf"} and learned["cat"] == read_thresholds(place, 0)["cat"]
    assert 0 < learned["cat"] < 1
    for *_, method, _, one in questions(found):
        assert one.decoded.facts["threshold"] == learned[method]
    decoding.asked.clear()
    decoding.run(tmp_path)
    assert decoding.asked == [], "all of it is on disk"


REFUSED = [
    (["decode.methods=[cat,consistency]"], "decode.methods", "self_consistency"),
    (["decode.methods=[cat,cat]"], "decode.methods", "twice"),
    (["decode.budget=4"], "decode.budget", "no method"),
    (["decode.cat.reallocate=false"], "decode.cat", "no method"),
    ([ALL, "decode.top=129"], "decode.top", "128"),
    ([ALL, "decode.temperature=-1"], "decode.temperature", "at least 0"),
    ([ALL, "decode.budget=0"], "decode.budget", "1"),
    (["decode.methods=[deepconf]", "decode.budget=2", "decode.deepconf.warmup=2"], "decode.deepconf.warmup", "warm-up"),
]


@pytest.mark.parametrize(("words", "field", "told"), REFUSED)
def test_a_setting_that_cannot_be_meant_is_refused(base_dir: Path, words: list[str], field: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        evaluation_config([f"model={base_dir}", "engine=hf", *words])
    assert caught.value.field == field


def test_a_run_that_trains_does_not_decode() -> None:
    with pytest.raises(ConfigError, match="trains") as caught:
        load(["recipe=care_grpo_tiny", "decode.methods=[greedy]"])
    assert caught.value.field == "decode.methods" and "carerl evaluate" in caught.value.remedy


def plan_of(base_dir: Path, *words: str) -> Plan | None:
    config = evaluation_config([f"model={base_dir}", "engine=hf", "questions=2", *words])
    task = TASKS["tiny"].build(config.task, config.seed)
    return planned(config, task, make_tokenizer(), chosen(config, task, 2))


def test_a_threshold_is_never_learned_on_what_is_evaluated(base_dir: Path) -> None:
    with pytest.raises(ConfigError, match="cat would learn a threshold") as caught:
        plan_of(base_dir, ALL)
    assert "task.validation_questions=64" in caught.value.remedy and "decode.cat.threshold" in caught.value.remedy
    assert "decode.cat.threshold=" not in caught.value.remedy, "what is unsure is each model's own"
    for given in ("decode.cat.threshold=0.5", "task.validation_questions=5"):
        assert plan_of(base_dir, ALL, given) is not None
    with pytest.raises(ConfigError, match="deepconf and cat"):
        plan_of(base_dir, ALL, "decode.deepconf.warmup=0")
    assert plan_of(base_dir) is None, "nothing is decoded unless it is asked for"


def test_a_question_to_be_shown_is_one_that_is_decoded(base_dir: Path) -> None:
    plan = plan_of(base_dir, "decode.methods=[greedy]")
    assert plan is not None
    known = plan.suites[0].examples[0].id
    assert plan_of(base_dir, "decode.methods=[greedy]", f"decode.show={known}") is not None
    with pytest.raises(ConfigError, match="no question with this id") as caught:
        plan_of(base_dir, "decode.methods=[greedy]", f"decode.show={known}x")
    assert known in caught.value.remedy


def test_the_suites_that_are_named_are_decoded_and_the_thresholds_stay(base_dir: Path) -> None:
    words = ["decode.methods=[greedy,cat]", "task.validation_questions=5"]
    every, some = plan_of(base_dir, *words), plan_of(base_dir, *words, "decode.suites=[q4,q3]")
    assert every is not None and some is not None
    assert [suite.name for suite in some.suites] == ["q3", "q4"], "in the order of the evaluation"
    assert {suite.name for suite in every.suites} > {"q3", "q4"} and some.validation == every.validation
    for suite in some.suites:
        assert suite in every.suites and some.context(suite, 1).seed == every.context(suite, 1).seed
    with pytest.raises(ConfigError, match="no suite of this name is evaluated") as caught:
        plan_of(base_dir, *words, "decode.suites=[q33]")
    assert "q3" in caught.value.remedy
