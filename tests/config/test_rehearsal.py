"""What a rehearsal makes of a recipe: small enough for a laptop, and otherwise the recipe.

Not covered: that it runs (``tests/controller/rehearsal/test_rehearsal.py``, ``tests/e2e/test_rehearsal.py``)."""

from __future__ import annotations

from pathlib import Path

import pytest

from carerl import job
from carerl.config.check.run import validate
from carerl.config.evaluate import evaluation_config
from carerl.config.load import dump, load, parse
from carerl.config.reading.compose import leaves
from carerl.config.reading.typed import plain
from carerl.config.rehearsal import changes, leave_real_run, rehearsed
from carerl.config.roles import actor_groups, colocated
from carerl.config.schema import RunConfig
from carerl.config.shapes import count_parameters
from carerl.config.sweep import refuse_own
from carerl.errors import ConfigError
from carerl.rehearse import trained_recipes

# settings of a user's own, each with something that the smaller lengths and batches must follow
OWN = {
    "many minibatches": "recipe=care_dapo_7b algorithm.group_size=64 algorithm.minibatches=16",
    "two a group": "recipe=rkl_grpo_3b algorithm.group_size=2 prompts_per_step=512",
    "Dr. GRPO": "recipe=care_grpo_3b algorithm.name=dr_grpo algorithm.constant_length=2048",
    "punished above its room": "recipe=care_dapo_3b algorithm.overlong_length=2100 algorithm.overlong_buffer=100",
    "a short buffer": "recipe=care_dapo_3b algorithm.overlong_buffer=4",
    "priced length": "recipe=care_grpo_3b reward.name=shaped reward.length_penalty=.5 reward.free_tokens=100 "
    "reward.long_tokens=110",
    "a best model": "recipe=care_grpo_7b task.validation_questions=200 checkpoint.best=accuracy",
    "greedy": "recipe=care_grpo_3b evaluation.temperature=0 evaluation.samples=1",
    "several engines a node": "recipe=care_grpo_7b rollout.tensor_parallel=4 rollout.gpus_per_actor=4 rollout.actors=1",
    "long prompts": "recipe=care_grpo_7b rollout.max_model_len=32768 task.max_prompt_tokens=9000",
    "shared GPUs": "recipe=care_grpo_7b cluster.placement=colocated learner.ranks=8 rollout.actors=8 "
    "learner.gpus_per_rank=.5 rollout.gpus_per_actor=.5 learner.optimizer_offload=true sync.transfer=ipc",
    "host memory": "recipe=care_grpo_7b learner.cpu_offload=true learner.activation_offload=true sync.transfer=nccl",
    "online": "recipe=care_grpo_3b tracking.wandb=online",
    "completions": "recipe=caspo_7b preference.label=monte_carlo judge.path= preference.completions=32",
    "one step": "recipe=care_grpo_3b steps=1 evaluation.every=0 checkpoint.every=0 tracking.rollouts_every=0",
}
RECIPE_OF = {
    "8_gpus_finetune": "sft_decision_4b",
    "tiny": "care_grpo_tiny",
    "tiny_decisions": "grpo_decision_tiny",
    "tiny_rounds": "caspo_tiny",
    "16_gpus_rounds": "caspo_7b",
}
SCALES = {  # a recipe at each scale: what one rank cannot have must go, wherever it stands
    f"at {path.stem}": f"recipe={RECIPE_OF.get(path.stem, 'care_grpo_1_5b')} scale={path.stem}"
    for path in sorted((Path(__file__).resolve().parents[2] / "recipes" / "scale").glob("*.yaml"))
}
EVERY = {**{name: f"recipe={name}" for name in trained_recipes()}, **SCALES, **OWN}


def asked(words: str, *more: str) -> RunConfig:
    return load([*words.split(), *more])


@pytest.mark.parametrize("words", EVERY.values(), ids=EVERY.keys())
def test_a_rehearsal_is_a_legal_run_that_fits_a_laptop(words: str) -> None:
    small = rehearsed(asked(words))
    validate(small)
    assert count_parameters(small.model.shape).total < 25e6
    assert sum(group.count * group.cpus_each for group in actor_groups(small)) <= 1
    assert sum(group.count * group.gpus_each for group in actor_groups(small)) == 0
    assert all(group.count == 1 for group in actor_groups(small))
    assert small.prompts_per_step * (small.algorithm.group_size if small.algorithm else 1) <= 16 * 8
    assert small.rollout.max_new_tokens <= 16 and small.steps == 3
    assert small.tracking.wandb != "online"
    if small.checkpoint.best:
        assert small.task.validation_questions <= 8


@pytest.mark.parametrize("words", EVERY.values(), ids=EVERY.keys())
def test_what_is_no_size_stays_the_recipes(words: str) -> None:
    real = asked(words)
    small = rehearsed(real)
    old, new = plain(real), plain(small)
    for key in ("vocab_size", "architecture", "tie_embeddings", "attention_bias", "context_length", "rope_theta"):
        assert new["model"]["shape"][key] == old["model"]["shape"][key]
    assert (new["model"]["dtype"], new["learner"]["compute_dtype"]) == (
        old["model"]["dtype"], old["learner"]["compute_dtype"],
    )  # fmt: skip
    sizes = {"group_size", "overlong_length", "overlong_buffer", "constant_length"}
    assert {k: v for k, v in (new["algorithm"] or {}).items() if k not in sizes} == {
        k: v for k, v in (old["algorithm"] or {}).items() if k not in sizes
    }
    assert new["regularizer"] == old["regularizer"]
    assert new["rollout"]["engine"] == old["rollout"]["engine"] and new["seed"] == old["seed"]
    assert bool(small.evaluation.every) == bool(real.evaluation.every)
    if real.taught:
        assert small.evaluation.at_start and small.evaluation.at_end, "else its engines would never get a weight"
    assert bool(small.checkpoint.every) == bool(real.checkpoint.every)
    # the same prompts are dropped, and the same questions not asked
    assert getattr(small.task, "max_prompt_tokens", None) == getattr(real.task, "max_prompt_tokens", None)
    assert small.rollout.max_model_len - small.rollout.max_new_tokens == (
        real.rollout.max_model_len - real.rollout.max_new_tokens
    )


@pytest.mark.parametrize("words", EVERY.values(), ids=EVERY.keys())
def test_every_difference_is_listed(words: str) -> None:
    """Put into the recipe's settings, what is listed makes the rehearsal's; and the recipe is left as it was."""
    real = asked(words)
    before = dict(leaves(plain(real)))
    small = rehearsed(real)
    listed = changes(real, small)
    assert dict(leaves(plain(real))) == before
    assert before | {change.key: change.new for change in listed} == dict(leaves(plain(small)))
    assert all(change.old != change.new and change.old == before[change.key] for change in listed)
    assert "steps: 200 -> 3" in map(str, listed) or real.steps != 200


def test_engine_and_rank_still_share_in_the_rehearsal_of_a_recipe_in_which_they_do() -> None:
    small = rehearsed(asked(OWN["shared GPUs"]))
    assert colocated(small) and not colocated(rehearsed(asked(OWN["host memory"])))


def test_a_rate_above_0_is_raised_and_one_of_0_is_not() -> None:
    assert rehearsed(asked("recipe=care_grpo_7b")).learner.optimizer.lr == 3e-4
    assert rehearsed(asked("recipe=care_grpo_7b learner.optimizer.lr=.1")).learner.optimizer.lr == 0.1
    assert rehearsed(asked("recipe=care_grpo_7b learner.optimizer.lr=0")).learner.optimizer.lr == 0


def test_what_is_measured_now_and_then_is_measured_in_a_rehearsal_too() -> None:
    found = {n: rehearsed(asked(f"recipe=care_grpo_3b tracking.part_norms_every={n}")) for n in (50, 1, 0)}
    assert [small.tracking.part_norms_every for small in found.values()] == [2, 1, 0]
    assert all(small.tracking.part_norms_every < small.steps for small in found.values())


def test_where_vllm_runs_on_gpus_only_transformers_is_the_engine_and_it_is_listed() -> None:
    real = asked("recipe=care_grpo_7b")
    assert "rollout.engine: vllm -> hf" in map(str, changes(real, rehearsed(real, cpu_vllm=False)))
    assert rehearsed(real).rollout.engine == "vllm"


def test_a_base_model_is_trained_for_a_few_steps_only() -> None:
    real = asked("recipe=care_grpo_tiny", "model.base_overrides=[learner.optimizer.lr=.002]")
    assert rehearsed(real).model.base_overrides == ["learner.optimizer.lr=.002", "steps=20"]


def test_the_real_runs_directory_is_left_alone(tmp_path: Path) -> None:
    """With the job's own words the rehearsal lies beside the run, on the same storage, even where that has begun."""
    first = tmp_path / "first"
    (first / "checkpoints" / "latest").mkdir(parents=True)
    (first / "config.yaml").write_text("recipe: care_grpo_3b\n")
    config = asked("recipe=care_dapo_7b", f"run_dir={first}", "resume=auto", "rehearse=true")
    assert (config.run_dir, config.resume, config.runs_dir) == ("", "", str(tmp_path))
    chosen = parse([f"run_dir={first}", "runs_dir=/elsewhere", "rehearse=true"])
    leave_real_run(chosen)
    assert chosen["runs_dir"] == "/elsewhere"
    assert asked("recipe=care_dapo_7b", "rehearse=true").runs_dir == "runs"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("recipe=care_grpo_tiny rehearse=true resume=runs/x", "leave resume= out"),
        ("resume=runs/x rehearse=true", "leave resume= out"),
        ("recipe=care_grpo_tiny rehearse=true dry_run=true", "starts nothing"),
        ("recipe=base_tiny rehearse=true", "care_grpo_tiny"),
        ("recipe=base_bytes rehearse=true", "care_grpo_tiny"),
        ("recipe=care_grpo_tiny rehearse=1", "true or false"),
    ],
)
def test_what_is_no_rehearsal_is_refused(words: str, part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(words.split())
    assert caught.value.field == "rehearse" and part in str(caught.value)


def test_a_row_of_a_sweep_and_an_evaluation_refuse_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"behind carerl sweep"):
        refuse_own(["recipe=care_grpo_tiny", "rehearse=true"])
    with pytest.raises(ConfigError, match=r"recipe=NAME rehearse=true"):
        evaluation_config([f"model={tmp_path}", "rehearse=true"])


def test_a_job_may_be_a_rehearsal_and_is_checked_as_one() -> None:
    words = ["recipe=care_dapo_7b", "rehearse=true", "run_dir=/shared/first", "resume=auto"]
    assert job._checked(words) == {"recipe": "rehearse_care_dapo_7b", "seed": "100"}, "not labelled as the run itself"
    with pytest.raises(ConfigError, match="sft"):
        job._checked(["recipe=base_tiny", "rehearse=true"])
    with pytest.raises(ConfigError, match="starts nothing"):
        job._checked([*words, "dry_run=true"])


def test_a_rehearsals_run_is_no_run_to_go_on_with(tmp_path: Path) -> None:
    """Its outcomes are coin flips: neither may it go on without them, nor be taken for a recipe to rehearse."""
    small = rehearsed(asked("recipe=care_grpo_tiny", "rehearse=true"))
    (tmp_path / "config.yaml").write_text(dump(small))
    with pytest.raises(ConfigError, match="another run"):
        load([f"resume={tmp_path}", "rehearse=false"])
    with pytest.raises(ConfigError, match="coin flips"):
        rehearsed(load([f"resume={tmp_path}"]))


def test_a_second_model_becomes_one_small_engine_on_the_cpu() -> None:
    real = asked("recipe=caspo_7b")
    small = rehearsed(real)
    judge = small.judge
    assert (judge.actors, judge.gpus_per_actor, judge.max_new_tokens) == (1, 0.0, 16)
    assert judge.shape == small.model.shape and judge.dtype == real.judge.dtype
    assert {group.role for group in actor_groups(small)} == {group.role for group in actor_groups(real)}
    assert rehearsed(real, cpu_vllm=False).judge.engine == "hf"
    assert small.preference.label == "judge" and small.preference.pairs_per_update == 8
