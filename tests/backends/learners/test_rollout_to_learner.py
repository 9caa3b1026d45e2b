"""From an engine's completions to the log-probs of learner and reference: the same tokens, at the same temperature.

The plain engine here; vLLM's log-probs are compared with a forward pass in ``test_engines.py``. The sharded learner is
in ``test_fsdp2.py``; that a batch's rows come from samples unchanged is all that is needed of the parts between.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from carerl.actors.handles.engines import Engines
from carerl.actors.workers.grader import GraderWorker
from carerl.actors.workers.reference import ReferenceWorker
from carerl.algorithms import ALGORITHMS
from carerl.backends.engines.base import Request
from carerl.backends.engines.hf import HFEngine
from carerl.backends.initial import init_tiny
from carerl.backends.learners.policy import Policy, response_ids
from carerl.backends.models import load_model, make_model, save_model
from carerl.config.load import load
from carerl.config.schema import RunConfig, ShapeConfig
from carerl.loss.batching import make_batch
from carerl.loss.streams import ReferenceShare, with_shares
from carerl.regularizers import REGULARIZERS
from carerl.tasks.tiny.tokenizer import EOS, PAD, make_tokenizer
from carerl.types import Completion, Example, Group, Sampling, TokenBatch
from tests.actors.local import without_ray
from tests.backends.engines.completions import complete

EXAMPLES = [Example(f"e{i}", tuple(10 + (7 * i + j) % 50 for j in range(3 + i)), "4") for i in range(4)]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    generator = torch.Generator().manual_seed(1)
    model = make_model(ShapeConfig(), (EOS,), lambda made: init_tiny(made, generator))
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(4)  # sharp enough for a temperature to show
    directory = tmp_path_factory.mktemp("model")
    save_model(directory, model.config, {n: p.detach() for n, p in model.named_parameters()}, make_tokenizer())
    return str(directory)


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """Workers set the number of threads of their process, which here is everyone's."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def config() -> RunConfig:
    words = ["learner.head_chunk_tokens=7", "reference.micro_batch_rows=3", "reference.threads=1"]
    return load(["recipe=care_grpo_tiny", *words])


def sampling(temperature: float = 1.0, **settings: Any) -> Sampling:
    return replace(Sampling(4, temperature, max_new_tokens=8, seed=3, stop_ids=(EOS,)), **settings)


def groups_of(completions: list[list[Completion]], monkeypatch: pytest.MonkeyPatch) -> list[Group]:
    """Through the driver's own handle, with an actor that is this process."""

    class Actor:
        class submit:
            @staticmethod
            def remote(requests: list[Request], sampling: Sampling, version: int) -> None:
                assert [request.prompt_ids for request in requests] == [example.prompt_ids for example in EXAMPLES]

        class advance:
            @staticmethod
            def remote(steps: int) -> list[tuple[int, list[Completion]]]:
                return list(enumerate(completions))[::-1]

    without_ray(monkeypatch)
    return Engines([Actor]).generate(EXAMPLES, sampling())


def rewarded(groups: list[Group]) -> list[Group]:
    for group in groups:
        for number, sample in enumerate(group.samples):
            sample.reward = float(number % 2)
    return groups


def batch_of(groups: list[Group], temperature: float) -> TokenBatch:
    return make_batch(rewarded(groups), ALGORITHMS["grpo"].build(ALGORITHMS["grpo"].config()), temperature)


def policy(model_dir: str) -> Policy:
    made = Policy(load_model(model_dir, "float32"), chunk_tokens=7)
    made.frozen_ref_head_VD = made.head_VD.detach().clone()
    return made


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.7])
def test_pitfall_07_engine_policy_and_reference_agree_at_every_temperature(
    model_dir: str, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One model in all three places: log-probs are equal, and so the exact divergences are 0. At another temperature
    than the engine's they are not."""
    prompts = [example.prompt_ids for example in EXAMPLES]
    completions = complete(HFEngine(config(), model_dir), prompts, sampling(temperature))
    batch = batch_of(groups_of(completions, monkeypatch), temperature)
    worker = ReferenceWorker()
    worker.load(config(), model_dir)
    found = [worker.streams(batch, [range(batch.rows)], with_hidden) for with_hidden in (False, True)]
    logprobs, hidden = (share for share in found if isinstance(share, ReferenceShare))
    ref_BT = with_shares(batch, (logprobs,)).ref_logprobs_BT
    entry = REGULARIZERS["srkl"]
    exact = entry.build(entry.config()).exact
    with torch.no_grad():
        stats = policy(model_dir)(with_shares(batch, (hidden,)), exact, True)
    rollout_N = batch.rollout_logprobs_BT[batch.mask_BT]
    for name, found_N in (("policy", stats["logprobs_N"]), ("reference", stats["ref_logprobs_N"])):
        torch.testing.assert_close(found_N, rollout_N, rtol=0, atol=1e-5, msg=name)
    torch.testing.assert_close(ref_BT[batch.mask_BT], rollout_N, rtol=0, atol=1e-5)
    assert float(stats["rkl_N"].max()) < 1e-5 and float(stats["divergence_N"].abs().max()) < 1e-5
    with torch.no_grad():
        other = policy(model_dir)(replace(batch, temperature=2 * temperature), None, False)
    assert float((other["logprobs_N"] - rollout_N).abs().mean()) > 0.05, "the test can fail"


def plain_logprobs(model: Any, row: tuple[int, ...], prompt: int) -> Tensor:
    with torch.no_grad():
        logp = model(input_ids=torch.tensor([row])).logits[0].log_softmax(-1)
    return logp[prompt - 1 : -1].gather(1, torch.tensor(row[prompt:])[:, None])[:, 0]


def test_pitfall_13_padding_and_stop_ids_inside_a_row_are_tokens_like_any_other(
    model_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are padded with 0, which is a token too, and so is the stop token: their log-probs are those of the row
    alone, in prompt and response, at the end and in the middle."""
    assert PAD == 0
    texts = [(PAD, PAD, EOS), (EOS,), (5, PAD, 6, PAD, PAD), (EOS, PAD, EOS, 5)]
    completions = [[Completion(ids, (-1.0,) * len(ids), False) for ids in texts] for _ in EXAMPLES]
    batch = batch_of(groups_of(completions, monkeypatch), 1.0)
    batch.input_ids_BS[:, 0] = PAD  # in the prompts too
    made = policy(model_dir)
    with torch.no_grad():
        found_N = made(batch, None, False)["logprobs_N"]
    rows = [(PAD, *example.prompt_ids[1:], *ids) for example in EXAMPLES for ids in texts]
    lengths = [len(example.prompt_ids) for example in EXAMPLES for _ in texts]
    expected = [plain_logprobs(made.model, row, n) for row, n in zip(rows, lengths, strict=True)]
    assert found_N.shape == (4 * 13,)
    torch.testing.assert_close(found_N, torch.cat(expected), rtol=0, atol=1e-5)


def test_pitfall_13_each_of_several_stop_tokens_ends_a_response_that_is_not_truncated(model_dir: str) -> None:
    stops = (EOS, *range(30, 50))
    engine = HFEngine(config(), model_dir)
    prompts = [example.prompt_ids for example in EXAMPLES]
    completions = [c for group in complete(engine, prompts, sampling(n=16, stop_ids=stops)) for c in group]
    last = {c.token_ids[-1] for c in completions}
    assert len(last & set(stops)) > 2, "several of them occur"
    for c in completions:
        assert not set(c.token_ids[:-1]) & set(stops)
        assert c.truncated == (c.token_ids[-1] not in stops)


def test_pitfall_17_token_ids_in_token_ids_out(model_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the engine was given and drew is what is graded, scored and trained on, token by token. The ids here
    cannot be had back from their text: special tokens vanish from it, and ids beyond the vocabulary have none."""
    drawn = [(PAD, 5, EOS, 6), (EOS, EOS), (63, PAD), (7,)]
    tokenizer = make_tokenizer()
    for ids in drawn[:3]:
        text = tokenizer.decode(list(ids), skip_special_tokens=True)
        assert tuple(tokenizer.encode(text, add_special_tokens=False)) != ids
    completions = [[Completion(ids, tuple(-0.1 * i for i in ids), False) for ids in drawn] for _ in EXAMPLES]
    groups = groups_of(completions, monkeypatch)
    grader = GraderWorker()
    grader.load(config(), model_dir)
    graded, _ = grader.grade(groups)
    batch = batch_of(graded, 1.0)
    rows = [(*example.prompt_ids, *ids) for example in EXAMPLES for ids in drawn]
    lengths = (batch.prompt_lengths_B + batch.response_lengths_B).tolist()
    assert [tuple(row[:n]) for row, n in zip(batch.input_ids_BS.tolist(), lengths, strict=True)] == rows
    assert tuple(response_ids(batch).tolist()) == sum((ids for _ in EXAMPLES for ids in drawn), ())
    torch.testing.assert_close(batch.rollout_logprobs_BT[batch.mask_BT], -0.1 * response_ids(batch).float())
