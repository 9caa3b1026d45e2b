"""Every refusal says field, value, reason and remedy, and comes before anything is started.

The cluster, the model directory and the built task are in test_at_hand.py.
"""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from carerl.config.check.work import reference_pairings
from carerl.config.kinds import KINDS, Kind
from carerl.config.load import dump, load
from carerl.errors import ConfigError

TINY = "recipe=care_grpo_tiny"

# words of the command line, the field, a word of the reason, a word of the remedy
CASES = [
    # names and keys
    ("recipe=care_grpo_tinny", "recipe", "no recipe file", "care_grpo_tiny"),
    ("recipe=model/tiny", "recipe", "fragment", ""),
    ("recipe=../recipes/base_tiny", "recipe", "", ""),
    ("recipe=7", "recipe", "", "recipe"),
    ("seed=1", "recipe", "no recipe is given", "care_grpo_tiny"),
    (
        f"{TINY} regularizer.bta=3",
        "regularizer.bta",
        "not a setting of regularizer srkl",
        "regularizer.beta?",
    ),
    (f"{TINY} learner.optimiser.lr=3", "learner.optimiser", "it has backend", "learner.optimizer?"),
    (
        f"{TINY} learner.optimizer.lrr=3",
        "learner.optimizer.lrr",
        "section learner.optimizer",
        "optimizer.lr?",
    ),
    (f"{TINY} stps=3", "stps", "not a setting of a run", "steps?"),
    (f"{TINY} regularizer.name=srlk", "regularizer.name", "no regularizer of this name", "srkl"),
    (f"{TINY} algorithm.name=grpoo", "algorithm.name", "no algorithm", "grpo"),
    (f"{TINY} task.name=tinny", "task.name", "no task", "tiny"),
    (f"{TINY} rollout.engine=vlm", "rollout.engine", "one of vllm, hf", "vllm"),
    (f"{TINY} learner.schedule.name=cosin", "learner.schedule.name", "cosine", "cosine"),
    (f"{TINY} model.dtype=fp32", "model.dtype", "float32", "float32"),
    (f"{TINY} tracking.wandb=onlin", "tracking.wandb", "online", "online"),
    (f"{TINY} regularizer=rkl", "regularizer", "a section", "regularizer.name=rkl"),
    (f"{TINY} learner=2", "learner", "a section", "learner."),
    (f"{TINY} --seed=3", "--seed=3", "key=value", "seed"),
    # a setting by its last name, a recipe by itself
    (f"{TINY} beta=1", "beta", "not a setting of a run", "did you mean preference.beta or regularizer.beta?"),
    (f"{TINY} lr=1e-3", "lr", "not a setting of a run", "did you mean learner.optimizer.lr?"),
    (f"{TINY} learner.lr=1e-3", "learner.lr", "section learner", "did you mean learner.optimizer.lr?"),
    (f"{TINY} optimizer.lr=1e-3", "optimizer", "not a setting of a run", "did you mean learner.optimizer?"),
    (f"{TINY} multiply=.2", "multiply", "not a setting of a run", "did you mean task.multiply?"),
    (f"{TINY} temperature=1", "temperature", "", "did you mean rollout.temperature or judge.temperature or "),
    (f"{TINY} regularizer.name=rkl gamma=.5", "gamma", "not a setting of a run", "one of recipe"),
    (f"{TINY} regularizer.name=rkl alpha=.5", "alpha", "not a setting of a run", "did you mean anchor.alpha or"),
    ("care_grpo_tiny", "care_grpo_tiny", "key=value", "write recipe=care_grpo_tiny"),
    ("care_grpo_tinny seed=3", "care_grpo_tinny", "key=value", "write recipe=care_grpo_tiny"),
    (f"{TINY} model.base_overrides=[lr=1]", "lr", "not a setting", "did you mean learner.optimizer.lr?"),
    (f"{TINY} seed", "seed", "key=value", "seed"),
    # what is evaluated
    (f"{TINY} evaluation.trace_swap=true", "evaluation.trace_swap", "no questions with closed options", "gold_noise"),
    (
        f"{TINY} evaluation.trace_swap=true evaluation.every=0 evaluation.at_start=false evaluation.at_end=false",
        "evaluation.trace_swap",
        "evaluates nothing",
        "evaluation.at_end=true",
    ),
    # types
    (f"{TINY} steps=2.5", "steps", "a whole number", "steps="),
    (f"{TINY} steps=many", "steps", "a whole number", "steps="),
    (f"{TINY} steps=true", "steps", "a whole number", "steps="),
    (f"{TINY} regularizer.beta=big", "regularizer.beta", "a number", "regularizer.beta="),
    (f"{TINY} dry_run=3", "dry_run", "true or false", "dry_run="),
    (f"{TINY} learner.optimizer.betas=3", "learner.optimizer.betas", "wrong type", "list"),
    (f"{TINY} learner.optimizer.betas=[a,b]", "learner.optimizer.betas", "wrong type", "list"),
    (f"{TINY} plugins={{a:1}}", "plugins", "list of module names", "plugins="),
    (f"{TINY} steps=[1", "steps", "not a YAML value", "quote"),
    (f"{TINY} steps=${{nope}}", "steps", "cannot be resolved", "steps="),
    (f"{TINY} steps=???", "steps", "cannot be resolved", "steps="),
    (f"{TINY} plugins=[no_such_module_here]", "plugins", "ModuleNotFoundError", "Python path"),
    # values
    (f"{TINY} regularizer.beta=-1", "regularizer.beta", "at least 0", "regularizer.beta=0"),
    (f"{TINY} regularizer.beta=.nan", "regularizer.beta", "finite", "finite"),
    (f"{TINY} learner.optimizer.lr=.inf", "learner.optimizer.lr", "finite", "finite"),
    (f"{TINY} regularizer.alpha=1.01", "regularizer.alpha", "between 0 and 1", "alpha="),
    (f"{TINY} regularizer.alpha=-.1", "regularizer.alpha", "between 0 and 1", "alpha="),
    (f"{TINY} seed=-1", "seed", "at least 0", "seed=0"),
    (f"{TINY} steps=0", "steps", "at least 1", "steps=1"),
    (f"{TINY} learner.rank=2", "learner.rank", "not a setting", "did you mean learner.ranks or learner.lora.rank?"),
    (f"{TINY} learner.ranks=0", "learner.ranks", "at least 1", "learner.ranks=1"),
    (f"{TINY} learner.optimizer.betas=[.9]", "learner.optimizer.betas", "two numbers", "[0.9,0.99]"),
    (f"{TINY} learner.optimizer.betas=[.9,1.0]", "learner.optimizer.betas", "two numbers", "[0.9,0.99]"),
    (f"{TINY} rollout.temperature=0", "rollout.temperature", "above 0", "temperature="),
    (f"{TINY} evaluation.top_p=1.5", "evaluation.top_p", "at most 1", "top_p=1"),
    (f"{TINY} evaluation.samples=0", "evaluation.samples", "at least 1", "samples=1"),
    (f"{TINY} evaluation.seed=-3", "evaluation.seed", "at least 0", "seed=0"),
    (f"{TINY} model.shape.num_layers=0", "model.shape.num_layers", "above 0", "num_layers"),
    # pairings
    (f"{TINY} regularizer.estimator=k1", "regularizer.estimator", "", "score or full"),
    (f"{TINY} regularizer.estimator=ful", "regularizer.estimator", "", "full"),
    (f"{TINY} regularizer.name=fkl regularizer.estimator=k3", "regularizer.estimator", "", "score"),
    (f"{TINY} regularizer.name=none regularizer.beta=1", "regularizer.beta", "", "regularizer."),
    (f"{TINY} algorithm.group_size=1", "algorithm.group_size", "compares", "group_size=8"),
    (f"{TINY} algorithm.update=both", "algorithm.update", "one of full, positive, negative", ""),
    (f"{TINY} algorithm.mismatch_correction=cut", "algorithm.mismatch_correction", "truncate, mask", ""),
    (f"{TINY} algorithm.mismatch_correction=mask", "algorithm.mismatch_correction", "off", "mismatch_cap=2"),
    (
        f"{TINY} algorithm.mismatch_correction=sequence_mask algorithm.mismatch_cap=.5",
        "algorithm.mismatch_cap",
        "every weight is 1",
        "mismatch_cap=2",
    ),
    ("recipe=base_bytes profile=true", "profile", "takes no steps", "leave profile out"),
    (f"{TINY} algorithm.entropy_bonus=-.1", "algorithm.entropy_bonus", "at least 0", "=0"),
    (f"{TINY} algorithm.name=dr_grpo", "algorithm.constant_length", "constant number of tokens", "constant_length=8"),
    (f"{TINY} algorithm.mismatch_cap=.5", "algorithm.mismatch_cap", "every weight is 1", "mismatch_cap=2"),
    (f"{TINY} algorithm.entropy_target=5", "algorithm.entropy_target", "4.16 nats", "0 for off"),
    (f"{TINY} regularizer.beta_gain=5", "regularizer.beta_gain", "stay above 0", "beta_gain=0.1"),
    (f"{TINY} regularizer.target_kl=.1 regularizer.beta=0", "regularizer.target_kl", "stays 0", "regularizer.beta=1"),
    (f"{TINY} regularizer.target_kl=.1 regularizer.alpha=1", "regularizer.target_kl", "no penalty", "alpha=0.8"),
    (f"{TINY} algorithm.name=dapo algorithm.overlong_buffer=4", "algorithm.overlong_length", "needs the length", "=8"),
    (
        f"{TINY} algorithm.name=dapo algorithm.overlong_buffer=4 algorithm.overlong_length=1024",
        "algorithm.overlong_length",
        "begins at 1020 tokens, and rollout.max_new_tokens=8",
        "overlong_length=8",
    ),
    (
        f"{TINY} algorithm.name=dapo algorithm.drop_uniform_groups=false",
        "algorithm.max_draws",
        "only groups that are dropped",
        "max_draws=1",
    ),
    (
        f"{TINY} algorithm.name=dapo algorithm.mask_truncated=true "
        "regularizer.place=reward regularizer.estimator=score",
        "regularizer.place",
        "mask_truncated",
        "place=loss",
    ),
    (
        "recipe=care_dapo_tiny algorithm.overlong_buffer=9",
        "algorithm.overlong_buffer",
        "overlong_length=8",
        "8 or less",
    ),
    (f"{TINY} regularizer.name=js regularizer.estimator=k2", "regularizer.estimator", "log-ratio", "score or full"),
    (f"{TINY} regularizer.place=sum", "regularizer.place", "loss, reward", ""),
    (f"{TINY} regularizer.place=reward", "regularizer.place", "full is a loss", "estimator=score"),
    (
        "recipe=care_gspo_tiny regularizer.place=reward regularizer.estimator=score",
        "regularizer.place",
        "one ratio",
        "place=loss",
    ),
    (
        f"{TINY} regularizer.place=reward regularizer.estimator=score distillation.name=prg",
        "regularizer.place",
        "weighs the policy terms",
        "regularizer.place=loss",
    ),
    (
        f"{TINY} regularizer.place=reward regularizer.estimator=score algorithm.update=positive",
        "regularizer.place",
        "update=positive",
        "place=loss",
    ),
    (f"{TINY} regularizer.name=sfkl regularizer.alpha=2", "regularizer.alpha", "between 0 and 1", "alpha="),
    (f"{TINY} prompts_per_step=33", "algorithm.minibatches", "do not divide", "1, 3, 11, 33"),
    (f"{TINY} algorithm.minibatches=5", "algorithm.minibatches", "whole groups", "multiple of 5"),
    (f"{TINY} learner.ranks=129", "learner.ranks", "128 rows", "learner.ranks=128"),
    (f"{TINY} rollout.actors=33", "rollout.actors", "32 prompts", "rollout.actors=32"),
    (f"{TINY} rollout.top_p=.9", "rollout.top_p", "learner", "evaluation.top_p"),
    (f"{TINY} rollout.top_k=5", "rollout.top_k", "learner", "evaluation.top_k"),
    (f"{TINY} rollout.max_new_tokens=64", "rollout.max_new_tokens", "max_model_len=64", "max_model_len"),
    (f"{TINY} rollout.max_model_len=65", "rollout.max_model_len", "context is 64", "64 or less"),
    (f"{TINY} model.shape.head_dim=16", "model.shape.head_dim", "head sizes 32, 64", "head size 32"),
    (f"{TINY} model.shape.attention_bias=true", "model.shape.attention_bias", "drops", "rollout.engine=hf"),
    (f"{TINY} model.shape.num_kv_heads=3", "model.shape.num_kv_heads", "do not divide", "divisor"),
    (
        f"{TINY} model.shape.architecture=qwen2 model.shape.attention_bias=true",
        "model.shape.architecture",
        "tokenizer",
        "qwen3",
    ),
    ("recipe=care_grpo_3b model.shape.head_dim=64", "model.shape.head_dim", "= 128", "correct"),
    ("recipe=care_grpo_3b model.shape.attention_bias=false", "model.shape.attention_bias", "always", "true"),
    (f"{TINY} model.shape.architecture=qwen", "model.shape.architecture", "known", "qwen"),
    (f"{TINY} rollout.tensor_parallel=2", "rollout.tensor_parallel", "without GPUs", "tensor_parallel=1"),
    (
        "recipe=care_grpo_3b rollout.tensor_parallel=2",
        "rollout.tensor_parallel",
        "1 GPUs",
        "gpus_per_actor=2",
    ),
    ("recipe=care_grpo_3b rollout.gpus_per_actor=16", "rollout.gpus_per_actor", "one node", "8"),
    ("recipe=care_grpo_3b sync.probe_abort=.5", "sync.probe_abort", "largest gap", "sync.probe_q999_abort"),
    (f"{TINY} sync.mismatch_abort=.5", "sync.mismatch_abort", "mean alone", "sync.mismatch_mean_abort"),
    (f"{TINY} sync.probe_mean_abort=-1", "sync.probe_mean_abort", "at least 0", "0 or more"),
    (f"{TINY} sync.transfer=tcp", "sync.transfer", "one of auto, nccl, ipc, shm, store", "auto"),
    (f"{TINY} sync.transfer=nccl", "sync.transfer", "do not both have GPUs", "auto"),
    (f"{TINY} sync.transfer=ipc", "sync.transfer", "do not both have GPUs", "auto"),
    ("recipe=care_grpo_3b sync.transfer=ipc", "sync.transfer", "nothing places an engine", "sync.transfer=auto"),
    ("recipe=care_grpo_3b sync.transfer=nccl rollout.engine=hf", "sync.transfer", "vLLM's own", "shm"),
    (
        "recipe=care_grpo_3b sync.transfer=store rollout.tensor_parallel=2 rollout.gpus_per_actor=2",
        "sync.transfer",
        "copied to each",
        "nccl",
    ),
    ("recipe=care_grpo_3b sync.probe_mean_abort=1e-4", "sync.probe_mean_abort", "bfloat16", "0.1"),
    (
        f"{TINY} learner.compute_dtype=bfloat16 sync.mismatch_q999_abort=.01",
        "sync.mismatch_q999_abort",
        "bfloat16",
        "1",
    ),
    (f"{TINY} model.base_recipe=", "model.path", "no model", "base_tiny"),
    (f"{TINY} model.path=./no/such/dir", "model.path", "no such model directory", "directory"),
    (f"{TINY} model.path=gone", "model.path", "no such model directory", "owner/name"),
    (f"{TINY} model.base_recipe=base_tny", "model.base_recipe", "no recipe file", "base_tiny"),
    (f"{TINY} model.base_recipe=rkl_grpo_tiny", "model.base_recipe", "kind is not sft", "base_tiny"),
    (f"{TINY} model.base_overrides=[stps=2]", "stps", "not a setting", "steps?"),
    (f"{TINY} resume=runs/gone", "resume", "no such directory", "earlier run"),
    ("recipe=base_tiny algorithm.name=grpo", "algorithm", "sft has no algorithm", "kind=rl"),
    ("recipe=base_tiny kind=rl", "algorithm", "needs one", "grpo"),
]


@pytest.mark.parametrize(("words", "field", "reason", "remedy"), CASES, ids=[c[0] for c in CASES])
def test_refused_with_field_value_reason_and_remedy(
    words: str, field: str, reason: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load(words.split())
    error = caught.value
    assert error.field == field
    assert reason in error.reason and remedy in error.remedy
    assert error.reason and error.remedy
    message = str(error)
    assert message.startswith(field) and "Traceback" not in message
    assert "  reason: " in message and "  remedy: " in message
    if error.value is not None:
        assert f"{field} = " in message.splitlines()[0]


@pytest.mark.parametrize("recipe", ["care_grpo_tiny", "care_dapo_7b"])
@pytest.mark.parametrize(("setting", "off"), [("top_p=0.95", "top_p=1.0"), ("top_k=20", "top_k=-1")])
def test_pitfall_07_a_cut_tail_is_refused_in_training_and_free_in_evaluation(
    recipe: str, setting: str, off: str
) -> None:
    """The learner's softmax is over the whole vocabulary: an engine that cuts it reports other log-probs."""
    with pytest.raises(ConfigError, match="distribution that the learner computes"):
        load([f"recipe={recipe}", f"rollout.{setting}"])
    load([f"recipe={recipe}", f"rollout.{off}", f"evaluation.{setting}"])


def test_pitfall_19_unknown_keys_die_at_load_wherever_they_are() -> None:
    for key in (
        "x",
        "task.x",
        "algorithm.x",
        "regularizer.x",
        "reward.x",
        "model.x",
        "model.shape.x",
        "rollout.x",
        "reference.x",
        "grading.x",
        "learner.x",
        "learner.schedule.x",
        "sync.x",
        "evaluation.x",
        "checkpoint.x",
        "tracking.x",
        "cluster.x",
    ):
        with pytest.raises(ConfigError) as caught:
            load([TINY, f"{key}=1"])
        assert caught.value.field == key


def test_several_wrong_values_are_reported_together() -> None:
    with pytest.raises(ConfigError) as caught:
        load([TINY, "seed=-1", "regularizer.alpha=2", "learner.ranks=0"])
    fields = {caught.value.field, *(other.field for other in caught.value.others)}
    assert fields == {"seed", "regularizer.alpha", "learner.ranks"}
    assert all(f"{field} = " in str(caught.value) for field in fields)


def test_the_edges_of_ranges_are_legal() -> None:
    for words in (
        "regularizer.alpha=0",
        "regularizer.alpha=1",
        "regularizer.beta=0",
        "seed=0",
        "algorithm.group_size=2",
        "regularizer.place=reward regularizer.estimator=score",
        "algorithm.mismatch_cap=1 algorithm.mismatch_correction=mask",
        "algorithm.name=dapo algorithm.overlong_length=8 algorithm.overlong_buffer=8",
        "algorithm.name=reinforce_pp algorithm.group_baseline=false algorithm.group_size=1",
        "algorithm.minibatches=32",
        "learner.ranks=128",
        "evaluation.top_p=0.5",
        "steps=1",
        "rollout.max_new_tokens=57",
        "tracking.wandb=off",
        "model.shape.head_dim=64",
    ):
        load([TINY, *words.split()])


def test_what_only_vllm_cannot_do_is_legal_with_the_other_engine() -> None:
    load([TINY, "rollout.engine=hf", "model.shape.head_dim=16", "model.shape.num_heads=4"])
    load([TINY, "rollout.engine=hf", "model.shape.attention_bias=true"])


def test_a_run_directory_is_never_shared(tmp_path: Path) -> None:
    load([TINY, f"run_dir={tmp_path}"])  # empty: fine
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(ConfigError) as caught:
        load([TINY, f"run_dir={tmp_path}"])
    assert caught.value.field == "run_dir" and f"resume={tmp_path}" in caught.value.remedy


def test_a_plan_may_name_a_directory_of_another_machine() -> None:
    load(["recipe=care_grpo_3b", "model.path=/models/qwen/3b", "dry_run=true"])
    with pytest.raises(ConfigError, match=r"no such model directory"):
        load(["recipe=care_grpo_3b", "model.path=/models/qwen/3b"])


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    config = load([TINY, "seed=7", "steps=20", "regularizer.alpha=0.5"])
    (tmp_path / "config.yaml").write_text(dump(config))
    return tmp_path


def test_resume_takes_the_stored_settings(earlier: Path) -> None:
    config = load([f"resume={earlier}"])
    assert (config.recipe, config.seed, config.steps, config.regularizer.alpha) == (
        "care_grpo_tiny",
        7,
        20,
        0.5,
    )
    assert (config.resume, config.run_dir) == (str(earlier), str(earlier))
    assert load([TINY, f"resume={earlier}", "steps=30", "learner.ranks=2"]).learner.ranks == 2


@pytest.mark.parametrize(
    ("word", "field"),
    [
        ("seed=8", "seed"),
        ("regularizer.beta=1", "regularizer"),
        ("recipe=rkl_grpo_tiny", "recipe"),
        ("learner.optimizer.lr=1", "learner.optimizer"),
        ("run_dir=elsewhere", "run_dir"),
        ("sed=1", "sed"),
    ],
)
def test_resume_refuses_to_become_another_run(earlier: Path, word: str, field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load([f"resume={earlier}", word])
    assert caught.value.field == field


def test_errors_survive_pickling() -> None:
    error = ConfigError("a", 1, "b", "c", [ConfigError("d", 2, "e", "f")])
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_reference_on_the_ranks_of_a_learner_needs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin's kind of run may have a reference and train nothing."""
    monkeypatch.setitem(KINDS, "scored", Kind(("rollout", "grading", "reference"), ("task",), "responses are scored"))
    config = load(["recipe=care_grpo_tiny", "reference.place=learner"])
    assert list(reference_pairings(config)) == []
    (error,) = reference_pairings(replace(config, kind="scored"))
    assert (error.field, error.remedy) == ("reference.place", "write reference.place=actors")
