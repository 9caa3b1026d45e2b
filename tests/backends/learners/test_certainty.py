"""Self-certainty as the learner's actor gives it: each token's is that of the distribution that the token came from.

Position t's distribution comes from the forward pass at t − 1, and implementations have been off by that one. The head
alone is in ``tests/loss/test_head.py``; means over ranks are in ``test_fsdp2.py``.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn.functional import kl_div
from transformers import AutoModelForCausalLM

from carerl.actors.workers.learner import LearnerWorker
from carerl.backends.engines.base import Request
from carerl.backends.engines.hf import HFEngine
from carerl.backends.initial import init_tiny
from carerl.backends.models import make_model, save_model
from carerl.config.load import load
from carerl.config.schema import ShapeConfig
from carerl.loss.packing import pack_rows
from carerl.tasks.tiny.tokenizer import EOS, VOCAB_SIZE, make_tokenizer
from carerl.types import Completion, Sampling, TokenBatch
from tests.backends.learners.ranks import alone

PADDED, TEMPERATURE = VOCAB_SIZE + 6, 0.7
PROMPTS = [tuple(10 + (7 * i + j) % 50 for j in range(3 + i)) for i in range(3)]
WAYS = {
    "fsdp2": ["learner.backend=fsdp2"],
    "bfloat16": ["learner.backend=fsdp2", "learner.compute_dtype=bfloat16"],
    "zero 3": ["learner.backend=deepspeed", "learner.zero_stage=3"],
}
WORDS = ["recipe=none_grpo_tiny", "learner.micro_batch_rows=2", "learner.head_chunk_tokens=3", "learner.threads=1"]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    generator, directory = torch.Generator().manual_seed(1), tmp_path_factory.mktemp("model")
    shape = ShapeConfig(vocab_size=PADDED, tie_embeddings=False)
    made = make_model(shape, (EOS,), lambda model: init_tiny(model, generator))
    with torch.no_grad():
        made.get_output_embeddings().weight.mul_(4)  # sharp enough for places to differ
    save_model(directory, made.config, {n: p.detach() for n, p in made.named_parameters()}, make_tokenizer())
    return str(directory)


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def drawn(model_dir: str) -> list[Completion]:
    """Three responses of an engine, with what it says of each token's distribution over all rows of the head."""
    engine = HFEngine(load([*WORDS, "rollout.engine=hf"]), model_dir)
    sampling = Sampling(1, TEMPERATURE, max_new_tokens=9, seed=3, stop_ids=(EOS,))
    engine.submit([Request(number, prompt, top=5) for number, prompt in enumerate(PROMPTS)], sampling)
    ended = dict(engine.advance())
    found = [ended[number][0] for number in range(len(PROMPTS))]
    assert min(len(one.token_ids) for one in found) > 1
    return found


def rows_of(drawn: list[Completion]) -> TokenBatch:
    """And a row without a response."""
    return pack_rows([*PROMPTS, PROMPTS[0]], [*(one.token_ids for one in drawn), ()], TEMPERATURE)


def scored(model_dir: str, rows: TokenBatch, vocabulary: int, way: str = "fsdp2") -> Tensor:
    worker = LearnerWorker()
    with alone():
        worker.load(load([*WORDS, *WAYS[way]]), model_dir)
        if vocabulary:
            worker.set_vocabulary(vocabulary)
        owned, streams = worker.log_probs([], "", rows)
        worker.release()
    whole = torch.zeros(rows.rows, rows.width)
    whole[owned] = streams["certainty"]
    return whole


def by_transformers(model_dir: str, rows: TokenBatch, row: int, later: int = 0) -> Tensor:
    """(T,) of one row, alone: KL(uniform ‖ softmax of the logits of real tokens), by torch's own divergence in float64.
    ``later``: how many positions after the right one the distributions are taken."""
    prompt, response = int(rows.prompt_lengths_B[row]), int(rows.response_lengths_B[row])
    model = AutoModelForCausalLM.from_pretrained(model_dir).eval()
    with torch.no_grad():
        logits_SV = model(input_ids=rows.input_ids_BS[row : row + 1, : prompt + response]).logits[0].double()
    first = prompt - 1 + later
    logp_TV = (logits_SV[first : first + response, :VOCAB_SIZE] / TEMPERATURE).log_softmax(-1)
    return kl_div(logp_TV, torch.full_like(logp_TV, 1 / VOCAB_SIZE), reduction="none").sum(-1)


@pytest.mark.parametrize(
    ("way", "near"), [("fsdp2", 3e-6), ("bfloat16", 0.02), pytest.param("zero 3", 3e-6, marks=pytest.mark.slow)]
)
def test_each_token_has_the_certainty_of_the_position_before_it(
    model_dir: str, drawn: list[Completion], way: str, near: float
) -> None:
    """``near``: the greatest relative error."""
    rows = rows_of(drawn)
    found_BT = scored(model_dir, rows, VOCAB_SIZE, way)
    apart = []
    for row, one in enumerate(drawn):
        length = len(one.token_ids)
        wanted_T = by_transformers(model_dir, rows, row)
        for place in (0, length - 1):  # where being off by one is seen first
            assert float(found_BT[row, place]) == pytest.approx(float(wanted_T[place]), rel=near)
        torch.testing.assert_close(found_BT[row, :length].double(), wanted_T, rtol=near, atol=0)
        apart += (by_transformers(model_dir, rows, row, later=1) / wanted_T - 1).abs().tolist()
    assert sum(apart) / len(apart) > 0.1, "one position later it would be another number"
    assert not found_BT[~rows.mask_BT].any(), "nothing beyond a response"


def test_over_all_rows_of_the_head_it_is_what_the_engine_said_as_it_drew(
    model_dir: str, drawn: list[Completion]
) -> None:
    """An engine does not know which rows are padding. Without a vocabulary nothing is computed."""
    rows = rows_of(drawn)
    found_BT = scored(model_dir, rows, PADDED)
    for row, one in enumerate(drawn):
        engines = [spread.certainty for spread in one.spreads]
        assert found_BT[row, : len(engines)].tolist() == pytest.approx(engines, rel=3e-6)
    real_BT = scored(model_dir, rows, VOCAB_SIZE)
    assert (real_BT - found_BT)[rows.mask_BT].abs().mean() > 1e-3, "padding counts if it is counted"
    assert not scored(model_dir, rows, 0).any()


def test_the_actor_refuses_more_tokens_than_its_head_has(model_dir: str, drawn: list[Completion]) -> None:
    with pytest.raises(ValueError, match=f"{PADDED + 1} tokens: the head has {PADDED} rows"):
        scored(model_dir, rows_of(drawn), PADDED + 1)
