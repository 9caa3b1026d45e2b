"""Plans from shapes: parameter counts against published ones, arithmetic against sums done by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from carerl.config.load import load
from carerl.config.plan.memory import GIB, kv_bytes_per_token, learner_memory, reference_memory, rollout_memory
from carerl.config.plan.plan import plan
from carerl.config.plan.render import render
from carerl.config.schema.cards import CARDS
from carerl.config.shapes import count_parameters, effective_shape


@pytest.mark.parametrize(
    ("recipe", "total", "non_embedding", "rounded"),
    [
        ("care_grpo_3b", 3.09e9, 2.77e9, 0.006e9), ("care_grpo_7b", 7.62e9, 6.53e9, 0.006e9),
        ("sft_decision_1_7b", 1.7e9, 1.4e9, 0.05e9), ("sft_decision_4b", 4.0e9, 3.6e9, 0.05e9),
        ("sft_decision_8b", 8.2e9, 6.95e9, 0.05e9),
    ],  # as on the models' cards
)  # fmt: skip
def test_parameters_of_published_models(recipe: str, total: float, non_embedding: float, rounded: float) -> None:
    p = count_parameters(load([f"recipe={recipe}"]).model.shape)
    assert p.total == pytest.approx(total, abs=rounded)
    assert p.non_embedding == pytest.approx(non_embedding, abs=rounded)
    assert p.total == p.embedding + p.non_embedding


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "llama"])
def test_parameters_equal_those_of_the_model_itself(architecture: str, tied: bool, bias: bool) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = replace(
        load(["recipe=care_grpo_tiny"]).model.shape,
        architecture=architecture,
        tie_embeddings=tied,
        attention_bias=bias,
        num_kv_heads=1,
    )
    config = AutoConfig.for_model(
        architecture,
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        attention_bias=bias,
        tie_word_embeddings=tied,
        pad_token_id=0,
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
        model.tie_weights()
    assert count_parameters(shape).total == sum(p.numel() for p in model.parameters())


def test_batch_plan_by_hand() -> None:
    # 32 prompts x 8 = 256 rows; 2 minibatches of 128; 3 ranks: 43, 43, 42 rows; 20 at a time: 3 micro-batches
    words = ["recipe=care_grpo_tiny", "learner.ranks=3", "learner.micro_batch_rows=20"]
    b = plan(load(words)).batch
    assert (b.rows, b.rows_per_minibatch, b.rows_per_rank, b.micro_batches) == (256, 128, 43, 3)
    # the first minibatch meets the weights that sampled it: only the second's 128 rows need a pass before
    assert (b.optimizer_steps, b.forward_backward, b.forward_only) == (2, 6, 3)
    assert (b.tokens_per_step, b.response_tokens_per_step) == (256 * 64, 256 * 8)
    # on-policy: one minibatch, so that no log-probs are needed before the update
    assert plan(load([*words, "algorithm.minibatches=1"])).batch.forward_only == 0


def test_memory_by_hand() -> None:
    config = load(["recipe=care_grpo_7b"])
    shape = config.model.shape
    n = count_parameters(shape).total
    memory = learner_memory(config, shape)
    # float32 weights, gradients and two moments over 8 ranks: 16 bytes a parameter
    assert sum(memory[k] for k in ("weights", "gradients", "optimizer")) == pytest.approx(16 * n / 8 / GIB)
    assert memory["head"] == pytest.approx(4 * 4 * 1024 * 152064 / GIB)  # four tables of float32
    # bfloat16: two layers, and embedding with head and last norm, which are the root's; its gradients in 2 and 4 bytes
    root = 2 * 152064 * 3584 + 3584
    assert memory["gathered"] == pytest.approx(2 * (2 * (n - root) / 28 + root) / GIB)
    assert memory["root gradients"] == pytest.approx((2 + 4) * root / GIB)
    # bfloat16 on a GPU: the head's float32 gradient and the reference's own head, without copies
    assert memory["head matrices"] == pytest.approx((4 + 2) * 152064 * 3584 / GIB)
    # 28 layers x 4 heads x 128 x (key and value) x 2 bytes
    assert kv_bytes_per_token(config, shape) == 28 * 4 * 128 * 2 * 2
    engine = rollout_memory(config, shape)
    assert sum(engine.values()) == pytest.approx(0.85 * CARDS["h100"].memory_gib)  # it takes what it is allowed
    full = load(["recipe=care_grpo_7b", "regularizer.estimator=full"])
    exact = learner_memory(full, shape)
    assert exact["head"] == pytest.approx(7 / 4 * memory["head"])
    assert exact["head matrices"] == memory["head matrices"], "evaluations need the reference's head in any case"


def test_a_head_in_bfloat16_is_copied_to_float32_on_the_cpu_alone() -> None:
    head, chunk = 152064 * 3584, 8 * 1024 * 152064

    def matrices(*words: str) -> float:
        config = load(["recipe=care_grpo_7b", *words])
        return learner_memory(config, config.model.shape)["head matrices"] * GIB

    def reference(*words: str) -> float:
        config = load(["recipe=care_grpo_7b", *words])
        return reference_memory(config, config.model.shape)["head"] * GIB

    assert matrices("learner.gpus_per_rank=0") == pytest.approx((4 + 4 + 2 + 4) * head)
    assert matrices("learner.compute_dtype=float32", "reference.compute_dtype=float32") == pytest.approx((4 + 4) * head)
    assert reference() == pytest.approx(chunk)
    assert reference("reference.gpus_per_actor=0") == pytest.approx(chunk + 4 * head)


def test_memory_of_the_head_follows_the_chunk_and_not_the_tokens() -> None:
    config = load(["recipe=care_grpo_7b"])
    small = learner_memory(config, config.model.shape)["head"]
    config.rollout.max_model_len *= 4
    assert learner_memory(config, config.model.shape)["head"] == small
    config.learner.head_chunk_tokens *= 2
    assert learner_memory(config, config.model.shape)["head"] == 2 * small


def test_gpu_hours_follow_the_work() -> None:
    def hours(*words: str) -> float:
        config = load(["recipe=care_grpo_7b", *words])
        compute = plan(config).compute
        assert compute is not None
        assert compute.gpu_hours == pytest.approx(config.steps * compute.step * 16 / 3600)
        return compute.gpu_hours

    assert hours("steps=400") == pytest.approx(2 * hours())
    assert hours("rollout.max_new_tokens=1024", "rollout.max_model_len=1536") < hours()


def test_tiny_plan_has_no_gpu_hours_and_large_ones_state_their_assumptions() -> None:
    tiny = render(plan(load(["recipe=care_grpo_tiny"])))
    assert "GPU-hours" not in tiny and "is assumed" not in tiny
    text = render(plan(load(["recipe=care_grpo_7b"])))
    assert "GPU-hours" in text and "none is named, h100 is assumed" in text
    for assumed in (
        "responses of 819 tokens",
        "35% of the matmul rate",
        "padding: 1.25 times",
        "weight sync from GPU to GPU (nccl), in seconds",
    ):
        assert f"assumed: {assumed}" in text


def test_a_person_with_one_card_reads_of_that_card_alone() -> None:
    """What it is, what is free of it, and nothing of actors that the run does not have."""
    made = plan(load(["recipe=care_grpo_0_5b", "scale=1_gpu_24gb"]))
    text = render(made)
    most = max(made.shared, key=lambda moment: moment.total)
    assert f"of 22 GiB they take {most.total:.3g} at most, in {most.name}" in text and most.total < 22
    assert "for another card write cluster.gpu=, one of" in text and "rtx4090" in text
    assert "reference's actors" not in text and "padding: 1.07 times the tokens in the learner" in text
    assert "1.5 GPU-hours on 1 GPU (1.5 hours)" in text
    assert "beside that the driver (about 2 GiB)" in text


def test_placement_packs_whole_actors_onto_nodes() -> None:
    nodes = plan(load(["recipe=care_grpo_7b"])).nodes
    assert len(nodes) == 2 and all(node.gpus <= 8 for node in nodes)
    assert sum(node.actors.get("learner", 0) for node in nodes) == 8
    # engines of 3 GPUs: 4 ranks leave room for one on the first node, then two a node
    words = ["recipe=care_grpo_3b", "rollout.gpus_per_actor=3"]
    assert [node.gpus for node in plan(load(words)).nodes] == [8, 6]


def test_the_reference_is_planned_also_without_a_penalty() -> None:
    roles = [a.role for a in plan(load(["recipe=none_grpo_tiny"])).actors]
    assert roles == ["learner", "rollout", "reference", "grading"]
    assert [a.role for a in plan(load(["recipe=base_tiny"])).actors] == ["learner"]


def test_the_directorys_own_shape_wins_over_the_recipes(tmp_path: Path) -> None:
    stated = {
        "model_type": "qwen2", "vocab_size": 1000, "hidden_size": 128, "intermediate_size": 256,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 4096, "tie_word_embeddings": True, "rope_theta": 1e6,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(stated))
    config = load(["recipe=care_grpo_3b", f"model.path={tmp_path}"])
    shape, origin = effective_shape(config)
    assert (shape.num_layers, shape.head_dim, shape.attention_bias) == (2, 32, True)
    assert str(tmp_path) in origin and origin in render(plan(config))


def test_the_hidden_states_of_an_exact_divergence_are_told() -> None:
    """1,024 responses of 2,048 tokens at 3,584 numbers of two bytes: 14 GiB."""
    notes = plan(load(["recipe=care_grpo_7b", "regularizer.estimator=full"])).notes
    assert any("hidden states of a step, up to 14 GiB" in note for note in notes)
    assert not any("hidden states" in note for note in plan(load(["recipe=care_grpo_7b"])).notes)


def test_a_plan_of_supervised_finetuning() -> None:
    """A row a prompt and one optimizer step; engines and reference as in RL, for evaluations."""
    config = load(["recipe=sft_decision_8b"])
    made, rl = plan(config), plan(load(["recipe=calibration_aware_8b"]))
    batch = made.batch
    assert (batch.prompts, batch.samples, batch.rows, batch.optimizer_steps) == (64, 1, 64, 1)
    assert (batch.rows_per_rank, batch.micro_batches, batch.forward_backward, batch.forward_only) == (16, 2, 2, 0)
    assert made.actors == rl.actors and made.memory == rl.memory and made.fits
    assert made.compute is not None and rl.compute is not None
    assert made.compute.step < rl.compute.step / 4
    # 64 rows instead of 512 in the layers, and no sync but for the ten evaluations after the first of 40 steps
    assert made.compute.stages["layers"] == pytest.approx(rl.compute.stages["layers"] / 8, rel=0.3)
    assert made.compute.stages["weight sync"] == pytest.approx(rl.compute.stages["weight sync"] * 10 / 40)
    assert "64 prompts x 1 samples = 64 rows" in render(made)
    tiny = plan(load(["recipe=sft_decision_tiny", "prompts_per_step=96"]))
    assert tiny.batch.rows == 96 and tiny.compute is None, "not the rows of the corpus"
