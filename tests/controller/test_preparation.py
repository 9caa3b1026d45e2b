"""What is settled before the first actor: what ends a response, what is recorded of it, and what a person is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from carerl.backends.models import make_model, save_model
from carerl.config.check.prompts import prompt_record
from carerl.config.load import dump, load, read
from carerl.config.plan.plan import plan
from carerl.config.plan.render import render
from carerl.config.schema import RunConfig
from carerl.controller.preparation import first_lines, prepare, say_trust, stop_ids, with_end_ids
from carerl.controller.rehearsal.parts import parts
from carerl.controller.rounds.scoring import splitter_of
from carerl.errors import ConfigError
from carerl.tasks.byte_tokenizer import EOS, VOCAB_SIZE, make_byte_tokenizer

TURN = "<|im_end|>"
TURN_ID, LISTED_ID = VOCAB_SIZE, 3  # the template's, and one that the model's file names
CHATML = "{% for m in messages %}{{ m['content'] }}<|im_end|>\n{% endfor %}"
QUESTIONS = {"short": 10, "middle": 60, "long": 100}  # letters


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    """A base model as it is published: one token ends texts, and another one the chat template's turns."""
    tokenizer = make_byte_tokenizer(context=256)
    tokenizer.add_special_tokens({"additional_special_tokens": [TURN]}, replace_extra_special_tokens=False)
    tokenizer.chat_template = CHATML
    shape = load(["recipe=base_bytes"]).model.shape
    model = make_model(replace(shape, vocab_size=VOCAB_SIZE + 1, num_layers=1, context_length=256), (EOS,))
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    save_model(tmp_path / "model", model.config, weights, tokenizer)
    change(tmp_path / "model", [EOS])
    return tmp_path / "model"


def change(model_dir: Path, ends: list[int]) -> None:
    (model_dir / "generation_config.json").write_text(json.dumps({"eos_token_id": ends, "temperature": 0.1}))


def settings(model_dir: Path, *words: str) -> RunConfig:
    folder = model_dir.parent
    rows = [json.dumps({"id": key, "question": "x" * n, "answer": "1"}) for key, n in QUESTIONS.items()]
    (folder / "train.jsonl").write_text("\n".join(rows))
    (folder / "test.jsonl").write_text("\n".join(row.replace("x", "y") for row in rows))
    return load(
        ["recipe=care_grpo_tiny", f"model.path={model_dir}", "model.base_recipe=", "task.name=jsonl",
         f"task.train={folder / 'train.jsonl'}", f"task.benchmarks=[{folder / 'test.jsonl'}]",
         "task.prompt_template='{question}'", "rollout.max_model_len=80", "rollout.max_new_tokens=16",
         "regularizer.estimator=score", *words]
    )  # fmt: skip


def prepared(config: RunConfig, model_dir: Path) -> tuple[RunConfig, Any, Any]:
    task, tokenizer = prepare(config, str(model_dir))
    return with_end_ids(config, task, str(model_dir)), task, tokenizer


def test_a_response_ends_with_every_token_that_model_tokenizer_or_template_names(model_dir: Path) -> None:
    config, task, tokenizer = prepared(settings(model_dir), model_dir)
    assert config.rollout.end_ids == [EOS, TURN_ID] and stop_ids(config, task) == (EOS, TURN_ID)
    assert first_lines(config, task, tokenizer)[-1] == f"a response ends at <eos> ({EOS}), {TURN} ({TURN_ID})"
    change(model_dir, [EOS, LISTED_ID])
    config, task, _ = prepared(settings(model_dir), model_dir)
    assert config.rollout.end_ids == [EOS, LISTED_ID, TURN_ID] == list(stop_ids(config, task))


def test_what_ended_responses_is_in_the_record_and_must_stay_so_for_a_resume(model_dir: Path, tmp_path: Path) -> None:
    config, _, _ = prepared(settings(model_dir), model_dir)
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(dump(config))
    assert read(run / "config.yaml") == config
    assert prepared(load([f"resume={run}"]), model_dir)[0].rollout.end_ids == [EOS, TURN_ID]
    change(model_dir, [EOS, LISTED_ID])
    with pytest.raises(ConfigError) as caught:
        prepared(load([f"resume={run}"]), model_dir)
    error = caught.value
    assert (error.field, error.value) == ("rollout.end_ids", [EOS, LISTED_ID, TURN_ID])
    assert f"was started with [{EOS}, {TURN_ID}]" in error.reason


def test_a_delimiter_that_cuts_nothing_is_refused_before_the_run(model_dir: Path) -> None:
    """Steps of gains end at it; without gains nobody reads it. A task may have steps of its own."""
    from tokenizers import normalizers
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace(";", ",")
    tokenizer.save_pretrained(model_dir)
    gains = ["distillation.name=prg", "distillation.weight=0"]
    of = settings(model_dir, *gains, "distillation.delimiter=,")
    task, tokenizer = prepare(of, str(model_dir))
    assert splitter_of(of, task, tokenizer).split(tokenizer.encode("a,b,c")) == (2, 4, 5)
    prepare(settings(model_dir), str(model_dir))
    with pytest.raises(ConfigError, match="cannot write the delimiter") as caught:
        prepare(settings(model_dir, *gains, "distillation.delimiter=;"), str(model_dir))
    assert caught.value.field == "distillation.delimiter" and "distillation.delimiter=" in caught.value.remedy
    tiny = ["recipe=hytuning_tiny", "model.base_recipe=base_tiny"]
    with pytest.raises(ConfigError, match="steps of its own") as caught:
        prepare(load([*tiny, "distillation.delimiter=;"]), "")
    assert caught.value.field == "distillation.delimiter"
    prepare(load(tiny), "")


def test_a_run_without_an_engine_has_nothing_to_end(tmp_path: Path) -> None:
    config = load(["recipe=base_tiny"])
    task, _ = prepare(config, "")
    assert with_end_ids(config, task, "") is config


def test_a_person_is_told_what_is_dropped_and_what_is_not_asked(model_dir: Path) -> None:
    """A prompt has a token for each letter and two for the end of the turn; 80 - 16 = 64 are left for it."""
    config, task, tokenizer = prepared(settings(model_dir), model_dir)
    training, evaluation, _ = first_lines(config, task, tokenizer)
    assert training == (
        "training prompts: 1 of 3 have more than 64 tokens (task.max_prompt_tokens) and are dropped "
        "(the longest, long, has 102)"
    )
    assert evaluation.startswith("evaluation test: 1 of 3 questions are not asked, as their prompts have more than 64")
    assert "(the longest, long, has 102)" in evaluation
    longest = {"id": "long", "tokens": 102}
    counts = {"questions": 3, "max_prompt_tokens": 64, "too_long": 1, "longest": longest}
    assert prompt_record(config, task) == {"training": counts, "evaluation": {"test": counts}}
    roomy, task, tokenizer = prepared(settings(model_dir, "rollout.max_model_len=118"), model_dir)
    assert first_lines(roomy, task, tokenizer)[:-1] == ["training prompts: all 3 are used (the longest, long, has 102)"]


def test_a_run_that_evaluates_nothing_counts_no_evaluation(model_dir: Path) -> None:
    off = ["evaluation.every=0", "evaluation.at_start=false", "evaluation.at_end=false"]
    config, task, tokenizer = prepared(settings(model_dir, *off), model_dir)
    assert set(prompt_record(config, task)) == {"training"} and len(first_lines(config, task, tokenizer)) == 2
    without, task, _ = prepared(settings(model_dir, *off, "task.benchmarks=[]"), model_dir)
    assert task.suites() == [] and set(prompt_record(without, task)) == {"training"}


def test_a_world_of_its_own_words_has_nothing_to_count() -> None:
    config = load(["recipe=care_grpo_tiny"])
    task, tokenizer = prepare(config, "")
    assert prompt_record(config, task) == {}
    assert first_lines(with_end_ids(config, task, ""), task, tokenizer) == ["a response ends at <eos> (1)"]


def test_what_is_done_at_decisions_is_said_wherever_a_run_is_described() -> None:
    config = load(["recipe=calibration_aware_tiny"])
    task, tokenizer = prepare(config, "")
    line = "decisions: cross-entropy toward paper, weight 0.03, clamp uniform, reward argmax"
    assert line in first_lines(with_end_ids(config, task, ""), task, tokenizer)
    assert f"- {line}\n" in render(plan(config))
    assert line.removeprefix("decisions: ") in ", ".join(parts(config, config, 0))


def test_that_a_models_own_code_is_run_is_said(model_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    say_trust(settings(model_dir))
    assert capsys.readouterr().out == ""
    config = settings(model_dir, "model.trust_remote_code=true")
    (model_dir.parent / "run").mkdir()
    (model_dir.parent / "run" / "config.yaml").write_text(dump(config))
    say_trust(load([f"resume={model_dir.parent / 'run'}", "model.trust_remote_code=true"]))
    said = capsys.readouterr().out
    assert "model.trust_remote_code is on" in said and str(model_dir) in said


def test_the_tokenizer_is_loaded_once(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoTokenizer

    loaded: list[str] = []
    load_it = AutoTokenizer.from_pretrained

    def counted(path: str, **options: Any) -> Any:
        loaded.append(path)
        return load_it(path, **options)

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", counted)
    prepare(settings(model_dir), str(model_dir))
    assert loaded == [str(model_dir)]
