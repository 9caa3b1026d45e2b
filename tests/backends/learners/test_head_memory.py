"""No path from hidden states to log-probs makes a table of tokens × vocabulary, nor keeps as much in pieces.

Learner, reference and plain engine, each at a vocabulary where everything else is small beside a chunk's logits. What
the chunked head itself may take is in ``tests/loss/test_head.py``; not covered: vLLM, whose memory is
its own affair, and GPUs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from carerl.actors.workers.reference import ReferenceWorker
from carerl.algorithms import ALGORITHMS
from carerl.backends.engines.hf import HFEngine
from carerl.backends.learners import LEARNERS
from carerl.backends.learners.starting import in_memory
from carerl.backends.models import make_model, save_model
from carerl.config.load import load
from carerl.config.schema import LearnerConfig, RunConfig, ShapeConfig
from carerl.loss.batching import Minibatch, make_batch, normalisers
from carerl.loss.objective import Objective
from carerl.records.vectors import TokenVectors
from carerl.regularizers import REGULARIZERS
from carerl.tasks.tiny.tokenizer import make_tokenizer
from carerl.types import Example, Group, Sample, Sampling, TokenBatch
from tests.allocations import Allocations, allocations
from tests.backends.engines.completions import complete
from tests.backends.learners.ranks import on_ranks

V, D, CHUNK = 20_000, 8, 16
GROUPS, SIZE, PROMPT, RESPONSE = 2, 4, 4, 60
LOGITS = 4 * CHUNK * V  # bytes of one chunk's
HEAD = 4 * V * D
TABLE = 4 * GROUPS * SIZE * RESPONSE * V  # 30 chunks


def model(seed: int) -> Any:
    torch.manual_seed(seed)
    shape = ShapeConfig(vocab_size=V, hidden_size=D, intermediate_size=16, num_layers=1, num_heads=1, num_kv_heads=1)
    return make_model(shape, (1,))


def config() -> RunConfig:
    words = [f"learner.head_chunk_tokens={CHUNK}", "reference.micro_batch_rows=8", "rollout.max_batch_rows=4"]
    return load(["recipe=care_grpo_tiny", "reference.threads=1", *words])


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory, made = tmp_path_factory.mktemp("model"), model(1)
    save_model(directory, made.config, {n: p.detach() for n, p in made.named_parameters()}, make_tokenizer())
    return str(directory)


@pytest.fixture
def same_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def batch(policy: Any) -> TokenBatch:
    def sample(number: int) -> Sample:
        return Sample("e", (number,) * RESPONSE, (-9.0,) * RESPONSE, False, (0, 0), reward=float(number % 2))

    groups = [
        Group(Example("e", (g,) * PROMPT, ""), [sample(SIZE * g + k) for k in range(SIZE)]) for g in range(GROUPS)
    ]
    return make_batch(groups, policy, 0.8)


def in_the_learner(estimator: str, entropy_bonus: float) -> tuple[Allocations, Allocations]:
    policy = ALGORITHMS["grpo"].build(ALGORITHMS["grpo"].config(entropy_bonus=entropy_bonus))
    entry = REGULARIZERS["srkl"]
    objective = Objective(policy, entry.build(entry.config()), 1.0, estimator)
    rows = batch(policy)
    if estimator == "full":
        rows = rows.with_streams(
            ref_hidden=TokenVectors.whole(torch.randn(rows.response_tokens, D), rows.response_lengths_B)
        )
    else:
        rows = rows.with_streams(ref_logprobs_BT=torch.full(rows.mask_BT.shape, -9.0))
    settings = LearnerConfig(micro_batch_rows=SIZE * GROUPS, head_chunk_tokens=CHUNK)
    learner = LEARNERS["fsdp2"](in_memory(model(1)), settings, objective, torch.device("cpu"))
    learner.set_reference_head(model(2).get_output_embeddings().weight.detach())
    minibatches = [
        Minibatch(tuple(range(rows.rows)), normalisers(rows, policy))
    ] * 2  # the second one has an old policy
    update = allocations(lambda: learner.update(rows, minibatches, 1e-3))
    return update, allocations(lambda: learner.log_probs(rows))


@pytest.mark.parametrize("entropy_bonus", [0.0, 0.1])
@pytest.mark.parametrize(("estimator", "chunks"), [("score", 3.5), ("full", 7.0)])
def test_an_update_and_a_scoring_pass_of_the_learner(estimator: str, chunks: float, entropy_bonus: float) -> None:
    """Beside logits an update holds gradient, both moments and the optimizer's own of the embedding, its only large
    parameter."""
    update, score = on_ranks(1, in_the_learner, estimator, entropy_bonus)
    assert update.largest <= LOGITS and score.largest <= LOGITS
    assert update.peak < chunks * LOGITS + 8 * HEAD < TABLE / 2
    assert score.peak < chunks * LOGITS


@pytest.mark.parametrize("with_hidden", [False, True])
def test_the_reference(model_dir: str, same_threads: None, with_hidden: bool) -> None:
    worker = ReferenceWorker()
    worker.load(config(), model_dir)
    rows = batch(ALGORITHMS["grpo"].build(ALGORITHMS["grpo"].config()))
    shares: list[Any] = []
    found = allocations(lambda: shares.append(worker.streams(rows, [range(rows.rows)], with_hidden)))
    assert (shares[0].hidden_ND is not None, shares[0].logprobs_N is None) == (with_hidden, with_hidden)
    if with_hidden:
        assert found.peak < LOGITS / 2, "no logits at all"
    else:
        assert found.largest == LOGITS and found.peak < 3.5 * LOGITS


def test_the_plain_engine_has_logits_of_one_token_for_each_of_its_rows(model_dir: str) -> None:
    """Sampling needs a whole distribution of each row that is decoded: rows × V, whatever the lengths."""
    engine = HFEngine(config(), model_dir)
    sampling = Sampling(n=4, temperature=0.8, max_new_tokens=20, seed=0)
    found = allocations(lambda: complete(engine, [(5,) * 40, (6,) * 30], sampling))
    assert found.largest == 4 * 4 * V
    assert found.peak < 8 * 4 * 4 * V


def test_a_table_would_be_seen() -> None:
    """The tests above can fail: the plain way to a log-prob, on the same rows."""
    rows = batch(ALGORITHMS["grpo"].build(ALGORITHMS["grpo"].config()))
    network = model(1)
    found = allocations(lambda: network(input_ids=rows.input_ids_BS).logits.log_softmax(-1).sum().backward())
    assert found.largest >= TABLE and found.peak > 2 * TABLE
