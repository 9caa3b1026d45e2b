"""Checks against a model directory, a built task, a cluster. The directories are real ones made here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from carerl.config.check.at_hand import (
    AT_A_TIME,
    LOOKED_AT,
    check_cluster,
    check_model_dir,
    check_task,
    training_examples,
)
from carerl.config.load import load
from carerl.config.roles import place
from carerl.config.schema import RunConfig
from carerl.errors import ConfigError
from carerl.tasks import TASKS, TextTask
from carerl.tasks.byte_tokenizer import EOS, VOCAB_SIZE, make_byte_tokenizer

WORDS = ["<pad>", "<eos>", "A", "Q", "=", "1", "2", "3", "4"]


def save_tokenizer(directory: Path, words: list[str] = WORDS, eos: str = "<eos>") -> None:
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=eos, pad_token="<pad>").save_pretrained(directory)


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    config = {
        "model_type": "qwen3", "vocab_size": len(WORDS), "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 32,
        "max_position_embeddings": 64, "tie_word_embeddings": True, "eos_token_id": 1,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_tokenizer(tmp_path)
    return tmp_path


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**(json.loads(path.read_text()) if path.exists() else {}), **values}))


def refused(model_dir: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        check_model_dir(str(model_dir), load(["recipe=care_grpo_tiny"]))
    assert caught.value.field == "model.path" and caught.value.remedy
    return str(caught.value)


def test_a_sound_directory_passes(model_dir: Path) -> None:
    config = load(["recipe=care_grpo_tiny"])
    check_model_dir(str(model_dir), config)
    change(model_dir / "generation_config.json", eos_token_id=[5, 1])
    check_model_dir(str(model_dir), config)
    change(model_dir / "config.json", vocab_size=len(WORDS) + 7)  # padded vocabularies are common
    check_model_dir(str(model_dir), config)


def test_the_tiny_tasks_own_tokenizer_passes(model_dir: Path) -> None:
    config = load(["recipe=care_grpo_tiny"])
    task = TASKS["tiny"].build(config.task, 100)
    tokenizer = task.make_tokenizer()
    assert tokenizer is not None
    tokenizer.save_pretrained(model_dir)
    change(model_dir / "config.json", vocab_size=64, eos_token_id=task.stop_ids[0])
    check_model_dir(str(model_dir), config)


def test_a_vocabulary_one_too_small(model_dir: Path) -> None:
    change(model_dir / "config.json", vocab_size=len(WORDS) - 1)
    assert "the tokenizer has 9 tokens, the model's vocabulary 8" in refused(model_dir)


def test_another_end_of_sequence(model_dir: Path) -> None:
    change(model_dir / "config.json", eos_token_id=2)
    assert "ends with token 1, config.json says 2" in refused(model_dir)


def test_another_end_of_sequence_in_the_generation_settings(model_dir: Path) -> None:
    change(model_dir / "generation_config.json", eos_token_id=[3, 4])
    assert "generation_config.json says [3, 4]" in refused(model_dir)


def test_a_tokenizer_that_encodes_everything_to_nothing(model_dir: Path) -> None:
    # in a directory of model type qwen2 transformers takes its own class for the custom tokenizer
    save_tokenizer(model_dir, ["<pad>", "<eos>", "alpha", "beta", "gamma"])
    change(model_dir / "config.json", vocab_size=64)
    check_model_dir(str(model_dir), load(["recipe=care_grpo_tiny"]))
    change(model_dir / "config.json", model_type="qwen2")
    message = refused(model_dir)
    assert "'alphabetagamma' becomes []" in message and "qwen3" in message


def test_tokens_that_are_parts_of_characters_are_no_fault(model_dir: Path) -> None:
    tokenizer = make_byte_tokenizer()
    assert "\ufffd" in tokenizer.decode([255])
    tokenizer.save_pretrained(model_dir)
    change(model_dir / "config.json", vocab_size=VOCAB_SIZE, eos_token_id=EOS)
    check_model_dir(str(model_dir), load(["recipe=care_grpo_tiny"]))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_missing_or_broken_files(model_dir: Path, name: str) -> None:
    (model_dir / name).write_text("{")
    refused(model_dir)
    (model_dir / name).unlink()
    refused(model_dir)


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    assert "no such model directory" in refused(tmp_path / "gone")


def test_a_config_that_is_not_a_decoders(model_dir: Path) -> None:
    (model_dir / "config.json").write_text('{"model_type": "qwen3", "vocab_size": 9}')
    assert "num_attention_heads" in refused(model_dir)


def test_prompts_that_do_not_fit_the_context() -> None:
    config = load(["recipe=care_grpo_tiny"])
    task = TASKS["tiny"].build(config.task, 100)
    check_task(task, config)
    short = load(["recipe=care_grpo_tiny", "rollout.max_model_len=12"])
    with pytest.raises(ConfigError) as caught:
        check_task(task, short)
    assert caught.value.field == "rollout.max_model_len" and caught.value.value == 12
    needed = int(caught.value.remedy.split("rollout.max_model_len=")[1].split()[0])
    assert needed > 12


def test_exactly_enough_room_is_enough() -> None:
    config = load(["recipe=care_grpo_tiny"])
    task = TASKS["tiny"].build(config.task, 100)
    examples = task.train_examples(0, config.prompts_per_step)
    rooms = [max(len(e.prompt_ids) for e in examples) + config.rollout.max_new_tokens]
    for suite in task.suites():
        room = max(config.rollout.max_new_tokens, suite.max_new_tokens or 0)
        rooms.append(max(len(e.prompt_ids) for e in suite.examples) + room)
    config.rollout.max_model_len = max(rooms)
    check_task(task, config)
    config.rollout.max_model_len -= 1
    with pytest.raises(ConfigError):
        check_task(task, config)


def math_task(folder: Path, lengths: list[int], evaluation: Sequence[int] = (1,)) -> tuple[TextTask, RunConfig]:
    """MATH with training problems of so many letters, and a tokenizer that makes a token of each."""
    folder.mkdir(exist_ok=True)
    for name, letters in {"train": lengths, "eval": evaluation}.items():
        rows = [json.dumps({"problem": f"{i:05d}" + "x" * n, "answer": "1"}) for i, n in enumerate(letters)]
        (folder / f"{name}.jsonl").write_text("\n".join(rows))
    words = [f"task.train={folder / 'train.jsonl'}", f"task.benchmarks=[{folder / 'eval.jsonl'}]"]
    config = load(["recipe=care_grpo_3b", *words, "prompts_per_step=32", "algorithm.minibatches=1", "learner.ranks=1"])
    task = TextTask(config.task, config.seed)
    task.attach(make_byte_tokenizer(chat=False))
    return task, config


def test_a_long_training_prompt_of_text_is_no_reason_to_refuse_a_run(tmp_path: Path) -> None:
    task, config = math_task(tmp_path, [10, 3000, 10])
    check_task(task, config)
    assert [tokens > 3000 for _, tokens in task.training_lengths().too_long] == [True]


def test_nothing_left_to_train_on_is_refused_with_the_shortest_and_the_longest(tmp_path: Path) -> None:
    task, config = math_task(tmp_path, [1200, 1100, 1300])
    found = task.training_lengths()
    assert (found.shortest[0], found.longest[0]) == ("train.jsonl:2", "train.jsonl:3")
    with pytest.raises(ConfigError) as caught:
        check_task(task, config)
    error = caught.value
    assert (error.field, error.value) == ("task.max_prompt_tokens", 1024)
    assert f"of 3 prompts the shortest, train.jsonl:2, has {found.shortest[1]:,} tokens" in error.reason
    assert f"the longest, train.jsonl:3, {found.longest[1]:,}" in error.reason
    # the remedy is taken as it stands
    needed = found.shortest[1]
    assert error.remedy.startswith(f"write task.max_prompt_tokens={needed} or more, with rollout.max_model_len=")
    config.task.max_prompt_tokens, config.rollout.max_model_len = needed, needed + config.rollout.max_new_tokens
    again = TextTask(config.task, config.seed)
    again.attach(make_byte_tokenizer(chat=False))
    check_task(again, config)
    assert {example.id.rpartition("/")[2] for example in again.train_examples(0, 9)} == {"train.jsonl:2"}


def test_a_question_that_no_context_holds_is_refused_with_a_remedy_that_is_one(tmp_path: Path) -> None:
    task, config = math_task(tmp_path, [400_000])
    with pytest.raises(ConfigError) as caught:
        check_task(task, config)
    assert caught.value.field == "task.max_prompt_tokens" and "400," in caught.value.reason
    context = config.model.shape.context_length
    assert caught.value.remedy == (
        f"shorten the questions, or give another model: this one's context is {context:,} tokens"
    )


def test_a_suite_of_which_no_question_fits_is_refused_unless_it_is_never_asked(tmp_path: Path) -> None:
    task, config = math_task(tmp_path, [10], evaluation=[1500, 1400])
    with pytest.raises(ConfigError) as caught:
        check_task(task, config)
    assert (
        caught.value.field == "rollout.max_model_len" and "no question of evaluation eval fits" in caught.value.reason
    )
    assert "the shortest prompt, eval.jsonl:2" in caught.value.reason
    needed = int(caught.value.remedy.split("rollout.max_model_len=")[1].split()[0])
    for room, fits in ((needed, True), (needed - 1, False)):
        config.rollout.max_model_len = room
        if fits:
            check_task(task, config)
        else:
            with pytest.raises(ConfigError):
                check_task(task, config)
    config.evaluation.every, config.evaluation.at_start, config.evaluation.at_end = 0, False, False
    check_task(task, config)


def test_a_finite_set_is_walked_once_and_an_endless_one_is_sampled(tmp_path: Path) -> None:
    size = AT_A_TIME + 44
    task, _ = math_task(tmp_path, [10] * size)
    seen = [example.prompt_ids for example in training_examples(task, 32)]
    assert len(set(seen)) == size
    assert len(seen) == 32 + 2 * AT_A_TIME  # the first step's, one epoch and the rest of its second part
    config = load(["recipe=care_grpo_tiny"])
    tiny = TASKS["tiny"].build(config.task, 100)
    assert sum(1 for _ in training_examples(tiny, 32)) == 32 + LOOKED_AT // AT_A_TIME * AT_A_TIME


def test_a_tasks_own_vocabulary_must_fit_the_model() -> None:
    config = load(["recipe=care_grpo_tiny"])
    task = TASKS["tiny"].build(config.task, 100)
    config.model.shape.vocab_size = task.vocab_size - 1
    with pytest.raises(ConfigError) as caught:
        check_task(task, config)
    assert (caught.value.field, caught.value.value) == ("model.shape.vocab_size", task.vocab_size - 1)


def test_a_supervised_run_needs_a_task_with_a_corpus(tmp_path: Path) -> None:
    check_task(TASKS["tiny"].build(load(["recipe=base_tiny"]).task, 100), load(["recipe=base_tiny"]))
    task, config = math_task(tmp_path, [10])
    check_task(task, config)
    config.kind = "sft"
    with pytest.raises(ConfigError) as caught:
        check_task(task, config)
    assert (caught.value.field, caught.value.value) == ("task.name", "math") and "no corpus" in caught.value.reason


FINETUNE = """
extends: [task/jsonl, model/bytes]
description: rows of its own
kind: finetune
model: {base_recipe: base_bytes}
rollout: {max_model_len: 4096, max_new_tokens: 64}
"""


def taught(folder: Path, rows: list[dict[str, object]], *words: str) -> tuple[TextTask, RunConfig]:
    (folder / "own.yaml").write_text(FINETUNE)
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    file = f"task.train={folder}/rows.jsonl"
    config = load([f"recipe={folder}/own.yaml", file, f"task.benchmarks=[{folder}/rows.jsonl]", *words])
    task = TextTask(config.task, config.seed)
    task.attach(make_byte_tokenizer())
    return task, config


def test_finetuning_needs_a_right_response_to_learn(tmp_path: Path) -> None:
    solved = {"id": "solved", "question": "1+1?", "answer": "2", "solution": r"\boxed{2}"}
    bare = {"id": "bare", "question": "1+2?", "answer": "3"}
    off = ["task.decontaminate=off"]
    check_task(*taught(tmp_path, [solved], *off))
    with pytest.raises(ConfigError) as caught:
        check_task(*taught(tmp_path, [solved, bare], *off))
    assert (caught.value.field, caught.value.value) == ("task.teach", "solution")
    assert "1 of 2 training questions" in caught.value.reason and "bare" in caught.value.reason
    assert "task.teach=decision" in caught.value.remedy
    check_task(*taught(tmp_path, [solved, bare], *off, "task.teach=decision"))
    with pytest.raises(ConfigError, match="1 are not graded as correct") as caught:
        check_task(*taught(tmp_path, [{**solved, "answer": "7"}], *off))
    assert caught.value.field == "task.teach"
    with pytest.raises(ConfigError, match="1 have more than 4 tokens"):
        check_task(*taught(tmp_path, [solved], *off, "rollout.max_new_tokens=4"))


def test_decisions_are_trained_where_some_question_has_options(tmp_path: Path) -> None:
    choice = {"question": "Which?", "choices": ["tin", "gold"], "answer": "B"}
    sums = {"question": "1+1?", "answer": "2"}
    words = ["task.decontaminate=off", "kind=rl", "algorithm.name=grpo", "regularizer.name=none", "reward.name=correct"]
    check_task(*taught(tmp_path, [choice, sums], *words, "decision.name=ce"))
    for word, field in (("decision.name=ce", "name"), ("decision.reward=argmax", "reward")):
        with pytest.raises(ConfigError) as caught:
            check_task(*taught(tmp_path, [sums], *words, word))
        assert caught.value.field == f"decision.{field}" and "no response holds a decision" in caught.value.reason
        assert "commonsenseqa" in caught.value.remedy
    check_task(*taught(tmp_path, [sums], *words))


def test_traces_are_swapped_where_some_evaluation_has_options(tmp_path: Path) -> None:
    """One question with options in any suite is enough; those that are trained on do not count."""
    choice = {"question": "Which?", "choices": ["tin", "gold"], "answer": "B"}
    sums = {"question": "1+1?", "answer": "2"}
    words = ["task.decontaminate=off", "kind=rl", "algorithm.name=grpo", "regularizer.name=none", "reward.name=correct"]
    for name, rows in (("sums", [sums]), ("both", [sums, choice])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    of = {name: f"{tmp_path}/{name}.jsonl" for name in ("sums", "both")}
    swap = "evaluation.trace_swap=true"
    with pytest.raises(ConfigError) as caught:
        check_task(*taught(tmp_path, [choice], *words, f"task.benchmarks=[{of['sums']}]", swap))
    assert caught.value.field == "evaluation.trace_swap" and "no question of sums has options" in caught.value.reason
    assert "commonsenseqa" in caught.value.remedy
    check_task(*taught(tmp_path, [choice], *words, f"task.benchmarks=[{of['sums']}]"))
    check_task(*taught(tmp_path, [choice], *words, f"task.benchmarks=[{of['sums']},{of['both']}]", swap))


def test_a_cluster_with_too_few_cpus_or_gpus() -> None:
    tiny = load(["recipe=care_grpo_tiny"])
    check_cluster(tiny, cpus=1.0, gpus=0.0)
    tiny.rollout.actors, tiny.rollout.cpus_per_actor = 4, 1.0
    with pytest.raises(ConfigError) as caught:
        check_cluster(tiny, cpus=2.0, gpus=0.0)
    assert "4.5 CPUs" in caught.value.reason and "rollout 4 x 1 = 4" in caught.value.reason
    assert "learner 1 x 0.2 = 0.2" in caught.value.reason


def test_missing_gpus_are_told_with_the_settings_of_gpus() -> None:
    """Each actor's by itself; and in a plan an actor, or two that share, for which no node is large enough."""
    config = load(["recipe=care_grpo_3b"])
    with pytest.raises(ConfigError) as caught:
        check_cluster(config, cpus=1000.0, gpus=4.0)
    assert "the plan needs 8 GPUs" in caught.value.reason and "cpus_per" not in caught.value.reason
    for setting in ("learner.gpus_per_rank", "rollout.gpus_per_actor", "reference.gpus_per_actor"):
        assert f"({setting})" in caught.value.reason
    with pytest.raises(ConfigError) as caught:
        check_cluster(config, cpus=1.0, gpus=8.0)
    assert "(reference.cpus_per_actor)" in caught.value.reason and "gpus_per" not in caught.value.reason
    config.reference.gpus_per_actor, config.cluster.gpus_per_node = 2.0, 1
    with pytest.raises(ConfigError) as caught:
        place(config)
    assert (caught.value.field, caught.value.value) == ("reference.gpus_per_actor", 2.0)


def test_an_environment_that_the_actors_will_have_is_checked_with_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(["recipe=care_grpo_1_5b", "scale=1_gpu_80gb"])
    check_cluster(config, cpus=16.0, gpus=1.0)
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    with pytest.raises(ConfigError) as caught:
        check_cluster(config, cpus=16.0, gpus=1.0)
    assert caught.value.field == "PYTORCH_CUDA_ALLOC_CONF"
    check_cluster(config, cpus=16.0, gpus=1.0, grows=True)  # other machines' processes have an environment of their own

    large = load(["recipe=care_grpo_3b"])
    check_cluster(large, cpus=64, gpus=8)
    with pytest.raises(ConfigError) as caught:
        check_cluster(large, cpus=64, gpus=7)
    assert caught.value.value == "7 GPUs" and "learner 4 x 1 = 4" in caught.value.reason
    with pytest.raises(ConfigError) as caught:
        check_cluster(large, cpus=2, gpus=0)
    assert {caught.value.value, caught.value.others[0].value} == {"2 CPUs", "0 GPUs"}
    assert "wait_seconds" not in caught.value.remedy, "a machine of its own does not grow"


def test_a_cluster_that_grows_is_waited_for_where_the_settings_say_how_long() -> None:
    with pytest.raises(ConfigError, match=r"cluster\.wait_seconds=1800"):
        check_cluster(load(["recipe=care_grpo_3b"]), cpus=0, gpus=0, grows=True)
    patient = load(["recipe=care_grpo_3b", "cluster.wait_seconds=1800"])
    check_cluster(patient, cpus=0, gpus=0, grows=True)
    with pytest.raises(ConfigError):
        check_cluster(patient, cpus=0, gpus=0)
    with pytest.raises(ConfigError, match=r"cluster\.wait_seconds"):
        load(["recipe=care_grpo_3b", "cluster.wait_seconds=-1"])
