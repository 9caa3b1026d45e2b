"""Evaluation of a model with real workers and the plain engine, all in this process: sampling, storing, going on.

Ray, vLLM and the command are ``e2e/test_commands``'; what samples come to is the tasks' own."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from carerl.actors.crew import EvaluationCrew
from carerl.actors.handles.engines import Engines
from carerl.actors.handles.graders import Graders
from carerl.actors.workers.engine import EngineWorker, StaleWeights
from carerl.actors.workers.grader import GraderWorker
from carerl.backends.models import load_model, load_tokenizer
from carerl.config.evaluate import evaluation_config
from carerl.config.load import dump, load
from carerl.config.schema import RunConfig
from carerl.controller.evaluation import chosen, evaluate, sample
from carerl.controller.models.base_model import bytes_model
from carerl.errors import ConfigError
from carerl.report.evaluation_table import evaluation_rows
from carerl.runs.samples import SampleStore, read_samples
from carerl.runs.tables import read_evaluations, write_evaluation
from carerl.tasks import TASKS, Suite
from carerl.tracking.summary import summary_rows
from carerl.types import Completion, Group
from tests.actors.local import Local, without_ray
from tests.backends.model_directories import untrained_base
from tests.backends.transfer.sending import deliver
from tests.metrics.declared import undeclared

WORDS = ["engine=hf", "samples=3", "questions=4", "rollout.max_batch_rows=6"]  # two questions at a time


@pytest.fixture(scope="module")
def base_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model of the tiny world, untrained, as the cache holds it."""
    return untrained_base(tmp_path_factory.mktemp("base"))


class Evaluation:
    """All suites through one set of workers; notes the requests that reach the engine."""

    def __init__(self, config: RunConfig, monkeypatch: pytest.MonkeyPatch, worker: EngineWorker | None = None) -> None:
        without_ray(monkeypatch)
        self.config = config
        self.task = TASKS[config.task.name].build(config.task, config.seed)
        self.asked: list[int] = []
        self.told: list[int] = []  # groups of each call of progress
        self.suites: list[Suite] = []  # empty: the task's
        rollout = Engines([Local(worker or EngineWorker(), self._note)])
        self.crew = EvaluationCrew(engines=rollout, graders=Graders([Local(GraderWorker())]), actors=[])
        self.crew.load(config, config.model.path)
        rollout.use_loaded()

    def _note(self, method: str, arguments: tuple[Any, ...]) -> None:
        if method == "submit":
            self.asked += [request.number for request in arguments[0]]

    def run(self, directory: Path, stop_after: int | None = None, stop_at: int | None = None) -> dict[str, list[Group]]:
        """``stop_after``: groups; ``stop_at``: calls of progress."""
        store = SampleStore(directory, 0, lambda ids: " ".join(map(str, ids)))
        seen = 0
        results: dict[str, list[Group]] = {}

        def progress(ended: list[Group]) -> bool:
            nonlocal seen
            seen += len(ended)
            self.told.append(len(ended))
            return (stop_after is None or seen < stop_after) and len(self.told) != stop_at

        for suite in self.suites or chosen(self.config, self.task, self.config.evaluation.questions):
            results[suite.name] = sample(self.crew, self.config, self.task, suite, store, progress)
            if (stop_after is not None and seen >= stop_after) or len(self.told) == stop_at:
                store.write_part()
                return results
        store.close()
        return results


def test_an_evaluation_stopped_anywhere_and_gone_on_with_is_the_one_never_stopped(
    base_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = Evaluation(evaluation_config([f"model={base_dir}", *WORDS]), monkeypatch)
    whole = evaluation.run(tmp_path / "whole")
    total = sum(len(groups) for groups in whole.values())
    assert len(evaluation.asked) == total == 20, "five suites of four questions"
    for stop_after in (2, 5, 14):
        evaluation.asked = []
        place = tmp_path / f"stopped{stop_after}"
        first = evaluation.run(place, stop_after)
        assert stop_after <= sum(map(len, first.values())) < total
        assert not (place / "step_000000.samples.parquet").exists()
        again = evaluation.run(place)
        assert again == whole, "tokens, log-probs, outcomes and answers"
        assert read_samples(place, 0) == read_samples(tmp_path / "whole", 0)
        assert len(evaluation.asked) < total + 6, "what had ended was not asked again"
        assert evaluation.task.evaluate(again) == evaluation.task.evaluate(whole)


class Slow(EngineWorker):
    """The plain engine ends its responses in one round; this one takes four for the first of them."""

    rounds = 0

    def advance(self, steps: int) -> list[tuple[int, list[Completion]]]:
        self.rounds += 1
        return super().advance(steps) if self.rounds > 3 else []


def test_a_stop_is_seen_after_a_round_in_which_nothing_ended(
    base_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long response takes many rounds. Whoever asks for a stop in the first is not made to wait for the last."""
    evaluation = Evaluation(evaluation_config([f"model={base_dir}", *WORDS]), monkeypatch, Slow())
    assert evaluation.run(tmp_path, stop_at=2) == {"q3": []}
    assert evaluation.told == [0, 0] and len(evaluation.asked) == 4, "the first is what the store held"


def test_the_samples_table_gives_back_every_token_and_log_prob(
    base_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = Evaluation(evaluation_config([f"model={base_dir}", *WORDS]), monkeypatch).run(tmp_path)
    rows = read_samples(tmp_path, 0)
    wanted = [(name, k, s) for name, groups in results.items() for g in groups for k, s in enumerate(g.samples)]
    assert len(rows) == len(wanted) == 60
    for row, (suite, k, found) in zip(rows, wanted, strict=True):
        assert (row["suite"], row["sample"], row["example_id"]) == (suite, k, found.example_id)
        assert tuple(row["response_ids"]) == found.response_ids and tuple(row["logprobs"]) == found.rollout_logprobs
        assert (row["outcome"], row["answer"], row["tokens"]) == (found.outcome, found.answer, len(found.response_ids))


@pytest.mark.parametrize(
    "change", [{"id": "another"}, {"gold": "7"}, {"prompt_ids": (4, 5, 6)}], ids=["id", "gold", "prompt"]
)
def test_samples_of_other_questions_are_not_taken(
    base_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    evaluation = Evaluation(evaluation_config([f"model={base_dir}", *WORDS]), monkeypatch)
    evaluation.run(tmp_path, stop_after=2)
    for suite in chosen(evaluation.config, evaluation.task, 4):
        changed = tuple(replace(example, **change) for example in suite.examples)
        evaluation.suites.append(replace(suite, examples=changed))
    with pytest.raises(ValueError, match="the data or the prompt has changed"):
        evaluation.run(tmp_path)


def test_a_suite_gets_the_same_samples_whatever_else_is_asked(
    base_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = Evaluation(evaluation_config([f"model={base_dir}", *WORDS]), monkeypatch)
    whole = evaluation.run(tmp_path / "whole")
    evaluation.suites = [
        suite for suite in reversed(chosen(evaluation.config, evaluation.task, 4)) if suite.name in ("facts", "q2")
    ]
    assert evaluation.run(tmp_path / "two") == {name: whole[name] for name in ("facts", "q2")}
    evaluation.suites = [replace(evaluation.suites[0], name=name) for name in ("one", "two")]
    named = evaluation.run(tmp_path / "named")
    tokens = [[s.response_ids for g in groups for s in g.samples] for groups in named.values()]
    assert tokens[0] != tokens[1], "the same questions under two names are asked with two seeds"


def test_a_damaged_part_is_set_aside_and_its_questions_asked_again(
    base_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = Evaluation(evaluation_config([f"model={base_dir}", *WORDS]), monkeypatch)
    whole = evaluation.run(tmp_path / "whole")
    evaluation.run(tmp_path / "cut", stop_after=2)
    part = next((tmp_path / "cut" / "step_000000.parts").iterdir())
    part.write_bytes(part.read_bytes()[:-50])  # as a disk that was full leaves it
    said: list[str] = []
    assert SampleStore(tmp_path / "cut", 0, str, said.append).finished("q3", []) == {}
    assert len(said) == 1 and part.name in said[0]
    assert evaluation.run(tmp_path / "cut") == whole


def test_an_engine_that_served_another_run_is_not_taken_for_a_loaded_one(
    base_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is kept, with whatever it holds: other weights that were sent, or those of another directory."""
    evaluation = Evaluation(evaluation_config([f"model={base_dir}", *WORDS]), monkeypatch)
    rollout, config = evaluation.crew.engines, evaluation.config
    rollout.use_loaded()
    evaluation.crew.load(config, config.model.path)
    rollout.use_loaded()  # nothing was sent to it, and it was built from there
    weights = dict(load_model(str(base_dir), "float32").named_parameters())
    deliver(rollout._actors, {name: weight.detach() + 1 for name, weight in weights.items()})
    evaluation.crew.load(config, config.model.path)
    with pytest.raises(StaleWeights, match="of an earlier run"):
        rollout.use_loaded()


def test_an_engine_that_another_model_was_loaded_into_is_not_taken_for_one_of_this_model(
    base_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = Evaluation(evaluation_config([f"model={base_dir}", *WORDS]), monkeypatch)
    other = shutil.copytree(base_dir, tmp_path / "other")
    evaluation.crew.load(evaluation.config, str(other))  # of the same shape, so that the engine is kept
    with pytest.raises(StaleWeights, match="of another model"):
        evaluation.crew.engines.use_loaded()


def run_directory(place: Path, base_dir: Path, checkpoint: bool = True) -> Path:
    config = load(["recipe=care_gspo_tiny", "seed=7", "evaluation.samples=5", f"model.path={base_dir}",
                   "model.base_recipe="])  # fmt: skip
    (place / "checkpoints").mkdir(parents=True)
    (place / "config.yaml").write_text(dump(config))
    if checkpoint:
        model = place / "checkpoints" / "step_000003" / "model"
        model.mkdir(parents=True)
        for file in base_dir.iterdir():
            if file.name != "carerl_base.yaml":
                (model / file.name).write_bytes(file.read_bytes())
        (place / "checkpoints" / "latest").symlink_to("step_000003")
    return place


def test_a_run_is_asked_what_it_was_asked_in_the_loop(base_dir: Path, tmp_path: Path) -> None:
    place = run_directory(tmp_path / "run", base_dir)
    newest = str(place / "checkpoints" / "step_000003" / "model")
    (place / "checkpoints" / "best").symlink_to("step_000003")
    for model in (place, place / "checkpoints" / "step_000003", place / "checkpoints" / "best", newest):
        config = evaluation_config([f"model={model}"])
        assert (config.model.path, config.recipe, config.seed) == (newest, "care_gspo_tiny", 7)
        assert (config.task.name, config.evaluation.samples, config.rollout.max_new_tokens) == ("tiny", 5, 8)
        assert config.algorithm is config.regularizer is config.reward is None
    assert evaluation_config([f"model={place}", "samples=2"]).evaluation.samples == 2


def test_another_model_is_asked_benchmarks_within_its_context(base_dir: Path) -> None:
    place = base_dir.parent / "plain"
    place.mkdir(exist_ok=True)
    for file in base_dir.iterdir():
        if file.name != "carerl_base.yaml":
            (place / file.name).write_bytes(file.read_bytes())
    config = evaluation_config([f"model={place}"])
    assert (config.recipe, config.task.name) == ("plain", "math")
    assert (config.rollout.max_model_len, config.rollout.max_new_tokens) == (64, 32), "the model has room for 64"


def test_a_hub_id_is_the_directory_that_it_is_fetched_into(base_dir: Path) -> None:
    place = base_dir.parent / "snapshots" / "3f2a"
    shutil.copytree(base_dir, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns("carerl_base.yaml"))
    stated = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(stated | {"dtype": "bfloat16"}))
    words = ["model=owner/Some-7B", "benchmarks=[gsm8k]", "max_new_tokens=8"]
    config = evaluation_config(words, {"owner/Some-7B": str(place)}.__getitem__)
    assert (config.model.path, config.recipe, config.model.dtype) == (str(place), "Some-7B", "bfloat16")
    assert (config.rollout.max_model_len, config.rollout.max_new_tokens) == (64, 8)
    asked = evaluation_config([*words, "dtype=float32"], {"owner/Some-7B": str(place)}.__getitem__)
    assert asked.model.dtype == "float32"


def test_a_run_keeps_its_lengths_whatever_they_are(base_dir: Path, tmp_path: Path) -> None:
    run = run_directory(tmp_path / "run", base_dir)
    stored = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(stored.replace("max_new_tokens: 8", "max_new_tokens: 50"))
    config = evaluation_config([f"model={run}"])
    assert (config.rollout.max_model_len, config.rollout.max_new_tokens) == (64, 50)


def test_parts_are_never_written_over_and_the_table_stands_for_them(
    base_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop may come at any moment: in the middle of removing the parts, too."""
    evaluation = Evaluation(evaluation_config([f"model={base_dir}", *WORDS]), monkeypatch)
    whole = evaluation.run(tmp_path / "whole")
    place = tmp_path / "broken"
    for stop_after in (2, 4, 6):
        evaluation.run(place, stop_after)
    parts = sorted((place / "step_000000.parts").iterdir())
    assert len(parts) == 3
    parts[0].unlink()
    assert evaluation.run(place) == whole and read_samples(place, 0) == read_samples(tmp_path / "whole", 0)
    evaluation.asked = []
    assert evaluation.run(place) == whole and evaluation.asked == [], "all of it is in the table"
    for group in whole["q3"]:
        group.samples[0].stated_confidence = 0.7
    store = SampleStore(tmp_path / "stated", 0, str)
    store.add("q3", dict(enumerate(whole["q3"])))
    store.write_part()
    examples = [group.example for group in whole["q3"]]
    assert list(SampleStore(tmp_path / "stated", 0, str).finished("q3", examples).values()) == whole["q3"]


def test_the_same_out_goes_on_and_another_evaluation_in_it_is_refused(base_dir: Path, tmp_path: Path) -> None:
    words = [f"model={base_dir}", f"out={tmp_path / 'here'}", *WORDS]
    config = evaluation_config(words)
    assert config.resume == ""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "config.yaml").write_text(dump(config))
    assert evaluation_config(words).resume == str(tmp_path / "here")
    spread = evaluation_config([*words, "grading.processes=3", "rollout.actors=2", "cluster.gpus_per_node=4"])
    assert spread.resume == str(tmp_path / "here"), "how the work is spread is no other evaluation"
    with pytest.raises(ConfigError) as caught:
        evaluation_config([*words, "samples=4"])
    assert caught.value.field == "evaluation.samples" and "begun with evaluation.samples = 3" in caught.value.reason
    run = run_directory(tmp_path / "run", base_dir)
    with pytest.raises(ConfigError, match="a run, and not an evaluation"):
        evaluation_config([f"model={base_dir}", f"out={run}"])


@pytest.mark.parametrize(
    ("words", "field", "reason"),
    [
        ([], "model", "no model to evaluate"),
        (["model=./nowhere"], "model", "no such directory"),
        (["model=RUN"], "model", "no checkpoint"),
        (["model=BASE", "samples=0"], "evaluation.samples", "at least 1"),
        (["model=BASE", "reward.name=correct"], "reward.name", "no setting of an evaluation"),
        (["model=BASE", "learner.micro_batch_rows=8"], "learner.micro_batch_rows", "no setting of an evaluation"),
        (["model=BASE", "tracking.wandb=offline"], "tracking.wandb", "no setting of an evaluation"),
        (["model=BASE", "evaluation.every=5"], "evaluation.every", "no setting of an evaluation"),
        (["model=BASE", "steps=5"], "steps", "no setting of an evaluation"),
        (["model=BASE", "out=RUN/.."], "out", "it holds something that is no evaluation"),
        (["model=BASE", "sample=4"], "sample", "not a setting"),
        (["model=BASE", "resume=RUN"], "resume", "no setting of an evaluation"),
        (["model=BASE", "dry_run=true"], "dry_run", "no setting of an evaluation"),
        (["model=BASE", "temperature=0"], "evaluation.samples", "every sample is the same"),
    ],
)
def test_bad_words_are_refused(words: list[str], field: str, reason: str, base_dir: Path, tmp_path: Path) -> None:
    run = run_directory(tmp_path / "run", base_dir, checkpoint=False)
    with pytest.raises(ConfigError, match=reason) as caught:
        evaluation_config([word.replace("BASE", str(base_dir)).replace("RUN", str(run)) for word in words])
    assert caught.value.field == field


def test_a_run_of_this_kind_is_not_for_the_trainer() -> None:
    with pytest.raises(ConfigError, match=r"carerl\.evaluate"):
        load(["recipe=care_grpo_tiny", "kind=evaluate"])


def test_questions_that_are_too_long_are_not_asked_and_counted_beside_accuracy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte is a token; the template puts 3 around a question, and 40 - 6 are left for a prompt. Shares are of
    the samples of the two that are asked."""
    place = bytes_model()
    lengths = {"short": 20, "fits": 31, "long": 32}
    rows = [{"id": key, "question": "x" * n, "answer": "1", "grader": "math"} for key, n in lengths.items()]
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = evaluation_config(
        [f"model={place}", f"benchmarks=[{tmp_path / 'test.jsonl'}]", "engine=hf", "samples=2", "max_new_tokens=6",
         "rollout.max_model_len=40", "task.prompt_template='{question}'"]
    )  # fmt: skip
    evaluation = Evaluation(config, monkeypatch)
    evaluation.task.attach(load_tokenizer(place))
    suites = chosen(config, evaluation.task, 0)
    results = evaluation.run(tmp_path / "run")
    assert {group.example.id for group in results["test"]} == {"short", "fits"} and len(evaluation.asked) == 2
    scored = evaluate(evaluation.task, suites, results)
    assert scored.metrics["eval/test/too_long"] == 1 and undeclared(scored.metrics) == []
    shares = [scored.metrics[f"eval/test/{name}"] for name in ("unparsed", "truncated", "wrong", "invalid")]
    assert sum(shares) + scored.metrics["eval/test/accuracy"] == pytest.approx(1), "over the questions that were asked"
    assert len(scored.rows) == 2
    write_evaluation(tmp_path, 0, scored)
    _, lines = evaluation_rows(read_evaluations(tmp_path)[0])
    assert dict(lines)["not asked: too long"] == ["1"]
    assert [row[0] for row in summary_rows({}, scored.metrics)].count("eval/test/too_long") == 1
    first = chosen(config, evaluation.task, 1)  # of one question, which is asked or not: no other takes its place
    assert len(first[0].examples) + first[0].too_long == 1
    assert "eval/test/too_long" not in evaluate(evaluation.task, [replace(suites[0], too_long=0)], results).metrics
