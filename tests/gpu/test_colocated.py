"""The section ``colocated``: what it counts by hand, its settings on a card of 80 GB and more, and its toy run.

Not covered: what a GPU shows. The toy run makes the same calls; there only sizes and the device differ.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from carerl.config.load import load
from carerl.config.plan.cards import card_of
from carerl.config.plan.memory import rollout_memory
from carerl.config.plan.peaks import Peak
from carerl.config.plan.plan import plan
from carerl.config.schema import RunConfig, ShapeConfig
from carerl.config.shapes import effective_shape
from carerl.config.transfer import transfer_kind
from carerl.tasks import TASKS
from carerl.types import Outcome
from tests.gpu import colocated
from tests.gpu.colocated import Case, Steps, fit_card, settings, tell_memory, timed
from tests.gpu.hardware import QWEN_0_5B, QWEN_1_5B, QWEN_7B, qwen_config
from tests.gpu.limits import Batch, Limits, decode_limit, update_flop
from tests.gpu.report import Report, Row, read
from tests.gpu.test_toy import ROOT

# A layer's matrices: q 4·4, k and v 2·4·2, o 4·4, MLP 3·4·6: 120 numbers. Two layers: 240. Head 10·4: 40.
SHAPE = ShapeConfig(
    architecture="llama", vocab_size=10, hidden_size=4, intermediate_size=6, num_layers=2, num_heads=2,
    num_kv_heads=1, head_dim=2,
)  # fmt: skip
BATCH = Batch(rows=2, prompt=3, response=5)
FORWARD = (2 * 240 + 2 * 2 * 2 * 2 * 8) * 16 + 2 * 40 * 10  # layers with attention, 16 tokens; head, 10 tokens: 10,528
CASES: dict[str, Case] = {name: getattr(colocated, f"run_{name}").keywords["case"] for name in ("0_5b", "1_5b", "7b")}


def config_with(**changed: Any) -> RunConfig:
    """CARE by GRPO in two minibatches, colocated on an H100."""
    config = load(["recipe=care_grpo_0_5b", "dry_run=true"])
    config.learner.lora.rank = changed.get("rank", 0)
    config.regularizer.beta = changed.get("beta", 0.04)
    config.algorithm.minibatches = changed.get("minibatches", 2)
    config.algorithm.epochs = changed.get("epochs", 1)
    return config


@pytest.mark.parametrize(
    ("changed", "passes"),
    [
        ({}, 4.5),  # forward, twice as much backward, the reference; before it log-probs of the second minibatch
        ({"rank": 8}, 3.5),  # what is frozen has no gradient of its own
        ({"beta": 0.0}, 3.5),  # no reference
        ({"minibatches": 1}, 4.0),
        ({"epochs": 2}, 8.5),  # log-probs once
    ],
)
def test_an_updates_flop_are_counted_pass_by_pass(changed: dict[str, Any], passes: float) -> None:
    assert update_flop(config_with(**changed), SHAPE, BATCH) == passes * FORWARD == passes * 10_528


def test_a_forward_pass_has_the_products_that_torch_counts() -> None:
    """torch counts attention's products over the whole square of a row, of which a causal one needs half."""
    from transformers import Qwen2ForCausalLM

    own = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4,
           "num_key_value_heads": 2, "num_hidden_layers": 3, "tie_word_embeddings": False}  # fmt: skip
    shape = ShapeConfig(
        architecture="qwen2", vocab_size=40, hidden_size=32, intermediate_size=48, num_layers=3, num_heads=4,
        num_kv_heads=2, head_dim=8, attention_bias=True, tie_embeddings=False,
    )  # fmt: skip
    config = qwen_config(own)
    config._attn_implementation = "eager"
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        Qwen2ForCausalLM(config)(input_ids=torch.zeros(2, 16, dtype=torch.long))
    # a row without a prompt, of a run with one pass forward, two backward and nothing else
    found = update_flop(config_with(beta=0.0, minibatches=1), shape, Batch(2, 0, 16)) / 3
    other_half = 2 * 3 * 4 * 8 * 16 * 2 * 16  # 2·L·h·a·S for each of 2·16 tokens
    assert counted.get_total_flops() == found + other_half


def test_decoding_reads_weights_once_and_the_keys_of_every_row() -> None:
    # bfloat16: 2·280 of weights; keys and values of a token 2·2·1·2·2 = 16 bytes, of 2 rows 5.5 tokens: 176
    config = config_with()
    assert decode_limit(config, SHAPE, BATCH, bytes_per_second=7360) == pytest.approx(2 * 7360 / 736)
    config.model.dtype = "float32"  # twice of all
    assert decode_limit(config, SHAPE, BATCH, bytes_per_second=7360) == pytest.approx(10)


@pytest.mark.parametrize(("own", "name"), [(QWEN_0_5B, "0_5b"), (QWEN_1_5B, "1_5b"), (QWEN_7B, "7b")])
def test_a_cases_shape_is_the_recipes(own: dict[str, Any], name: str, tmp_path: Path) -> None:
    assert CASES[name].shape is own and CASES[name].recipe.endswith(name)
    qwen_config(own).save_pretrained(tmp_path)
    config = load([f"recipe={CASES[name].recipe}", "dry_run=true", f"model.path={tmp_path}"])
    found, recipe = effective_shape(config)[0], config.model.shape
    same = {key: value for key, value in asdict(recipe).items() if key not in ("context_length", "rope_theta")}
    assert {key: getattr(found, key) for key in same} == same


@pytest.fixture
def plugin() -> Iterator[None]:
    yield
    TASKS.pop("drawn", None)
    sys.modules.pop("tests.gpu.drawn_task", None)


def settings_of(name: str, folder: Path, gib: float) -> RunConfig:
    qwen_config(CASES[name].shape).save_pretrained(folder / "model")
    return settings(CASES[name], folder, gib)


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("gib", [79.1, 139.7])
def test_a_case_fits_a_card_of_80_gb_and_takes_no_more_of_a_larger_one(name: str, gib: float, tmp_path: Path) -> None:
    config = settings_of(name, tmp_path, gib)
    planned = plan(config)
    assert planned.fits and not planned.overflows
    assert transfer_kind(config) == "ipc" and config.steps == 3
    assert {group.role for group in planned.actors} == {"learner", "rollout", "grading"}
    assert card_of(config).memory_gib == gib
    taken = sum(rollout_memory(config, planned.shape).values())
    extra = planned.memory["rollout"].get("adapters", 0.0)
    assert taken - extra == pytest.approx(0.6 * 79.1, rel=1e-6), "what gpu_memory_utilization=.6 is of an H100"
    assert config.learner.lora.rank == (32 if name == "7b" else 0)
    rows = planned.batch
    assert rows.rows <= config.rollout.max_batch_rows, "all rows are decoded at one time, as the limit assumes"
    assert rows.row_tokens == config.task.prompt_tokens + config.rollout.max_new_tokens  # type: ignore[attr-defined]


def test_an_engine_takes_its_own_share_of_a_smaller_card() -> None:
    config = config_with()
    fit_card(config, 44.4)
    assert config.rollout.gpu_memory_utilization == 0.6 and card_of(config).memory_gib == 44.4


@pytest.mark.usefixtures("plugin")
def test_drawn_prompts_are_the_same_however_they_are_cut_and_half_of_all_answers_are_right(tmp_path: Path) -> None:
    config = settings_of("0_5b", tmp_path, 79.1)
    task = TASKS["drawn"].build(config.task, config.seed)
    whole = task.train_examples(250, 12)
    assert whole == [task.train_examples(250 + k, 1)[0] for k in range(12)]
    assert len({example.id for example in whole}) == 12 and len({example.prompt_ids for example in whole}) == 12
    drawn = [token for example in whole for token in example.prompt_ids]
    assert len(whole[0].prompt_ids) == 512 and 5 <= min(drawn) < 151_936 // 50 and 148_000 < max(drawn) < 151_936
    graded = [task.grade(whole[0], (first, 7), False)[0] for first in range(10)]
    assert graded == [Outcome.CORRECT, Outcome.WRONG] * 5


METRICS = {
    "rollout/generated_tokens": 160.0, "time/train": 2.0, "time/generate": 4.0, "time/step": 7.0,
    "sync/probe_mean": 0.01, "sync/probe_q999": 0.2, "rollout/mismatch_mean": 0.01,
}  # fmt: skip
SECONDS = {"sync": [9.0, 0.4], "sleep": [0.2], "wake_weights": [0.1], "wake_cache": [0.3]}


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Row]]:
    """Tells steps of 32 rows, of 3 and 5 tokens, on a device of 1e6 FLOP/s and 1e4 bytes/s. Returns rows by name."""
    monkeypatch.setattr(colocated, "effective_shape", lambda config: (SHAPE, ""))

    def tell(*every: dict[str, float], goal: float = 0.35) -> dict[str, Row]:
        config = config_with()
        config.steps, config.prompts_per_step, config.task.prompt_tokens = len(every), 4, 3  # type: ignore[attr-defined]
        shown = Steps(Report("case", tmp_path / "rows"), config, Limits(1e6, 1e4), goal)
        shown.seconds = SECONDS
        for number, metrics in enumerate(every, start=1):
            shown.step(number, METRICS | metrics)
        return {row.name: row for row in read(tmp_path / "rows")}

    return tell


def test_a_step_is_told_with_its_rates_and_the_best_one_is_held_to_the_goal(
    steps: Callable[..., dict[str, Row]],
) -> None:
    rows = steps({"time/train": 20.0, "time/generate": 1.0}, {}, {"time/train": 3.0})
    assert rows["step 2: update, s, and tokens a second"].value == [2.0, 128.0]  # 32 rows of 8 tokens
    assert rows["step 1: sampling, s, and response tokens a second"].value == [1.0, 160.0]
    assert (rows["step 3: weight sync, s"].value, rows["step 3: weight sync, s"].ok) == (0.4, True), "the last of them"
    best = rows["best update: share of the card's own product rate"]
    assert best.value == pytest.approx(16 * 4.5 * 10_528 / 2.0 / 1e6) and best.ok  # 16 times the two rows above
    # 32 rows: 2·280 + 32·5.5·16 bytes a decode step
    limit = 32 * 1e4 / (560 + 2816)
    assert rows["best sampling: share of what the card's own bandwidth allows"].value == pytest.approx(160 / limit)


@pytest.mark.parametrize(
    ("metrics", "goal", "missed"),
    [
        ({"sync/probe_mean": 0.11}, 0.35, "step 1: mean |engine - learner| after it, nats"),
        ({"sync/probe_q999": 1.1}, 0.35, "step 1: 99.9 % of |engine - learner| after it, nats"),
        ({"sync/probe_mean": float("nan")}, 0.35, "step 1: mean |engine - learner| after it, nats"),
        ({"time/train": 4.0}, 0.35, "best update: share of the card's own product rate"),
    ],
)
def test_a_bar_that_is_missed_is_shown_as_missed(
    metrics: dict[str, float], goal: float, missed: str, steps: Callable[..., dict[str, Row]]
) -> None:
    assert {name for name, row in steps(metrics, goal=goal).items() if row.ok is False} == {missed}


def test_a_slow_sync_misses_half_a_second(
    steps: Callable[..., dict[str, Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SECONDS, "sync", [0.1, 0.51])
    assert steps({})["step 1: weight sync, s"].ok is False


@pytest.mark.usefixtures("plugin")
def test_memory_is_held_to_the_plan_within_15_percent(tmp_path: Path) -> None:
    config = settings_of("0_5b", tmp_path, 79.1)
    planned = plan(config)
    learner, engine = (sum(planned.memory[role].values()) for role in ("learner", "rollout"))
    host = {role: sum(parts.values()) for role, parts in planned.resident.items()}
    peaks = {
        "learner 0": Peak(1.14 * host["learner"], 0.84 * learner, learner),
        "rollout 0": Peak(0.86 * host["rollout"], engine, 1.01 * engine),
        "grading 0": Peak(1.16 * host["grading"]),
    }
    card = max(moment.total for moment in planned.shared)
    tell_memory(Report("case", tmp_path / "rows"), config, peaks, 1.14 * card)
    found = {row.name.partition(", GiB")[0]: row.ok for row in read(tmp_path / "rows")}
    assert found == {
        "learner: peak main memory": True,
        "learner: peak tensors on the card": False,
        "learner: fragmentation": None,
        "rollout: peak main memory": True,
        "rollout: peak tensors on the card": True,
        "rollout: fragmentation": None,
        "grading: peak main memory": False,
        "card: peak of all processes": True,
    }


def test_calls_are_timed_and_made_as_before() -> None:
    class Engines:
        def sync(self, learner: str, version: int) -> str:
            time.sleep(0.05)
            return f"{learner} {version}"

        def sleep(self) -> None:
            raise RuntimeError("refused")

        wake_weights = wake_cache = sleep

    engines = Engines()
    with timed(engines) as seconds:
        assert engines.sync("learner", version=3) == "learner 3"
        with pytest.raises(RuntimeError, match="refused"):
            engines.sleep()
    engines.sync("learner", 4)
    assert len(seconds["sync"]) == 1 and 0.05 <= seconds["sync"][0] < 1 and seconds["sleep"] == []


def test_a_case_that_fails_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(report: Report, case: Case, folder: Path) -> None:
        report.tell("before", 1)
        raise RuntimeError("no memory left")

    monkeypatch.setattr(colocated, "_run", fails)
    with pytest.raises(RuntimeError):
        colocated.run_7b(Report("case", tmp_path / "rows"))
    before, failed = read(tmp_path / "rows")
    assert before.value == 1 and failed.ok is False and failed.value == "RuntimeError: no memory left"


@pytest.mark.slow
def test_the_toy_run_is_a_whole_run_of_three_steps(tmp_path: Path) -> None:
    """With Ray, vLLM and the plan's own memory. Adapters make it no other: ``TOY=1 python -m tests.gpu colocated``."""
    environment = {**os.environ, "TOY": "1", "OUT": str(tmp_path)}
    command = [sys.executable, "-m", "tests.gpu", "colocated_0_5b"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row.name: row for row in read(tmp_path / "gpu_check.jsonl")}
    assert rows["the run"].value == "completed"
    for step in (1, 2, 3):
        assert rows[f"step {step}: weight sync, s"].value > 0
        gap = rows[f"step {step}: mean |engine - learner| after it, nats"]
        assert gap.ok and gap.value > 0, "in bfloat16 they differ by rounding"
    assert rows["best update: share of the card's own product rate"].value > 0
    held = [row for row in rows.values() if row.name.endswith("peak main memory, GiB, and planned")]
    assert len(held) == 3 and all(row.ok for row in held)
