"""The engines against the model they hold: log-probs, weight updates, seeds.

The oracle is a plain forward pass of transformers over prompt and response. Not covered: GPUs; sampling
distributions of vLLM (a property of vLLM), beyond that log-probs are those of the tokens drawn.
"""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from torch import Tensor

from carerl.actors.workers.engine import EngineWorker, StaleWeights
from carerl.backends import weight_files
from carerl.backends.engines import ENGINES, Engine, Query, RequestsInFlight
from carerl.backends.engines.hf import processed_logprobs
from carerl.backends.engines.vllm import CachedPrefixes
from carerl.backends.initial import init_tiny
from carerl.backends.models import end_ids, make_model, save_model
from carerl.backends.transfer.base import Sent
from carerl.backends.transfer.digest import DamagedWeights, IncompleteWeights
from carerl.config.load import load
from carerl.config.schema import RunConfig, ShapeConfig
from carerl.seeds import derived_seed
from carerl.tasks.tiny.tokenizer import EOS, make_tokenizer
from carerl.types import Completion, Sampling
from tests.actors.local import Local
from tests.backends.engines.completions import complete, requests
from tests.backends.transfer.sending import as_stored, bring, deliver

ALSO_ENDS = 23  # by the model's generation_config.json alone: no sampling names it
# what a publisher may have put into that file, each of it visible in a sample or its log-probs
PUBLISHED = {
    "temperature": 0.1,
    "top_k": 1,
    "top_p": 0.05,
    "repetition_penalty": 5.0,
    "min_p": 0.5,
    "max_new_tokens": 2,
}
WORDS = 66  # vLLM pads them to 128, and keeps what it was given of an embedding to the end of a sync
CONTEXT = 320  # vLLM on the CPU caches prefixes in blocks of 128 tokens
PROMPTS = [tuple(10 + (7 * i + j) % 50 for j in range(3 + i % 4)) for i in range(12)]


def fresh(seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    shape = ShapeConfig(context_length=CONTEXT, vocab_size=WORDS)
    return make_model(shape, (EOS,), lambda model: init_tiny(model, generator))


def weights(model: Any) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def sampling(n: int = 2, temperature: float = 1.0, seed: int = 3) -> Sampling:
    return Sampling(n=n, temperature=temperature, max_new_tokens=6, seed=seed, stop_ids=(EOS,))


def largest_gap(model: Any, prompts: Any, groups: list[list[Completion]], temperature: float = 1.0) -> float:
    """Between an engine's log-probs and a plain forward pass; infinite where it is no number, which ``max`` drops."""
    worst = 0.0
    for prompt, group in zip(prompts, groups, strict=True):
        for completion in group:
            with torch.no_grad():
                logits = model(torch.tensor([[*prompt, *completion.token_ids]])).logits[0]
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            logp = torch.log_softmax(logits / temperature, dim=-1)
            for t, (token, logprob) in enumerate(zip(completion.token_ids, completion.logprobs, strict=True)):
                gap = abs(float(logp[len(prompt) - 1 + t, token]) - logprob)
                worst = max(worst, math.inf if math.isnan(gap) else gap)
    return worst


@pytest.fixture(scope="module")
def first_model() -> Any:
    return fresh(1)


@pytest.fixture(scope="module")
def model_dir(first_model: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model in several files, as large ones are: every engine here begins with its weights."""
    directory = tmp_path_factory.mktemp("model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weight_files, "FILE_BYTES", 100_000)
        save_model(directory, first_model.config, weights(first_model), make_tokenizer())
    assert len(list(directory.glob("*.safetensors"))) > 3
    settings = directory / "generation_config.json"
    stated = {"eos_token_id": [EOS, ALSO_ENDS], **PUBLISHED}
    settings.write_text(json.dumps(json.loads(settings.read_text()) | stated))
    return str(directory)


@pytest.fixture(scope="module")
def config() -> RunConfig:
    return load(["recipe=care_grpo_tiny", f"model.shape.context_length={CONTEXT}", f"rollout.max_model_len={CONTEXT}"])


@pytest.fixture(scope="module", params=["hf", pytest.param("vllm", marks=pytest.mark.engine)])
def engine(request: pytest.FixtureRequest, config: RunConfig, model_dir: str, first_model: Any) -> Engine:
    """One engine for all tests of its kind; each test begins by giving it the weights that it wants."""
    made = ENGINES[request.param].build(config, model_dir)
    assert largest_gap(first_model, PROMPTS, complete(made, PROMPTS, sampling())) < 1e-5
    return made


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_pitfall_07_logprobs_are_those_of_the_tempered_model_after_every_update(
    engine: Engine, temperature: float
) -> None:
    for seed in (2, 3):
        model = fresh(seed)
        bring(engine, weights(model))
        groups = complete(engine, PROMPTS, sampling(temperature=temperature))
        assert largest_gap(model, PROMPTS, groups, temperature) < 1e-5


def test_pitfall_14_cached_prefixes_of_old_weights_are_forgotten(engine: Engine) -> None:
    long_prompts = [tuple(10 + (i + j) % 50 for j in range(260)) for i in range(3)]
    for seed in (4, 5):
        model = fresh(seed)
        bring(engine, weights(model))
        assert largest_gap(model, long_prompts, complete(engine, long_prompts, sampling(n=4))) < 1e-5


def test_more_prompt_tokens_than_a_step_takes(engine: Engine) -> None:
    """vLLM takes 8192 tokens at a time; the prompt that would be cut in two has a seed like any other."""
    model = fresh(6)
    bring(engine, weights(model))
    prompts = [tuple(10 + (i * i + j * (i + 1)) % 50 for j in range(250 + i)) for i in range(40)]
    assert sum(map(len, prompts)) > 8192
    assert largest_gap(model, prompts, complete(engine, prompts, sampling(n=1))) < 1e-5


def exact(model: Any) -> Any:
    """A float64 copy. transformers computes its norms in float32 whatever the model's type, so they are replaced."""
    double = copy.deepcopy(model).double()
    for parent in list(double.modules()):
        for name, child in list(parent.named_children()):
            if type(child).__name__ == "Qwen3RMSNorm":
                norm = torch.nn.RMSNorm(child.weight.shape[0], eps=child.variance_epsilon, dtype=torch.float64)
                norm.weight.data.copy_(child.weight)
                setattr(parent, name, norm)
    return double


@pytest.mark.slow
def test_on_a_sharp_model_the_engine_is_as_near_to_float64_as_transformers_in_float32_is(engine: Engine) -> None:
    """1e-5 nats is what float32 gives while logits are small. Those of a trained, sharp policy reach 30, where one unit
    in the last place is 2e-6 and every layer adds some; there the bar is the rounding of float32 itself."""
    model = fresh(11)
    with torch.no_grad():
        model.model.norm.weight.mul_(16.0)
        for layer in model.model.layers:
            layer.self_attn.q_norm.weight.mul_(2.0)
    bring(engine, weights(model))
    groups = complete(engine, PROMPTS, sampling(n=16, temperature=2.0))  # into the tail, where logits differ most
    oracle = exact(model)
    with torch.no_grad():
        spread = float(oracle(torch.tensor([PROMPTS[0]])).logits.abs().max())
    rounding = largest_gap(model, PROMPTS, scored(oracle, PROMPTS, groups, 2.0), 2.0)
    assert spread > 20 and rounding > 1e-6  # it is sharp, and float32 shows it
    gap = largest_gap(oracle, PROMPTS, groups, 2.0)
    assert gap < 3 * rounding


def scored(model: Any, prompts: Any, groups: list[list[Completion]], temperature: float) -> list[list[Completion]]:
    """The same responses with a model's own log-probs."""
    rescored = []
    for prompt, group in zip(prompts, groups, strict=True):
        rescored.append([])
        for completion in group:
            with torch.no_grad():
                logits = model(torch.tensor([[*prompt, *completion.token_ids]])).logits[0]
            logp = torch.log_softmax(logits / temperature, dim=-1)[len(prompt) - 1 : -1]
            values = logp.gather(1, torch.tensor(completion.token_ids)[:, None])[:, 0].tolist()
            rescored[-1].append(Completion(completion.token_ids, tuple(values), completion.truncated))
    return rescored


@pytest.mark.parametrize("left_out", ["model.layers.1.", "model.embed_tokens."])
def test_pitfall_14_a_layer_left_out_shows_in_the_logprobs(engine: Engine, left_out: str) -> None:
    """What was left out is told by name, and by the comparison that the parity probe makes."""
    bring(engine, weights(fresh(6)))
    model = fresh(7)
    partial = {name: tensor for name, tensor in weights(model).items() if not name.startswith(left_out)}
    with pytest.raises(IncompleteWeights, match=left_out):
        bring(engine, partial).check_complete({name: tuple(t.shape) for name, t in weights(model).items()})
    assert largest_gap(model, PROMPTS, complete(engine, PROMPTS, sampling())) > 1e-3
    bring(engine, weights(model))
    assert largest_gap(model, PROMPTS, complete(engine, PROMPTS, sampling())) < 1e-5


@pytest.fixture
def worker(engine: Engine, model_dir: str, monkeypatch: pytest.MonkeyPatch) -> EngineWorker:
    """The actor around that engine, with weights of version 1."""
    monkeypatch.setattr(ray, "get", lambda values, timeout=None: values)
    made = EngineWorker()
    made._engine, made._model_dir = engine, model_dir
    made.accept(deliver([Local(made)], weights(fresh(6))), 1)
    return made


class Dies(Exception):
    """The sender's end."""


@pytest.mark.parametrize("kind", ["shm", "store"])
def test_pitfall_14_a_sync_that_breaks_off_leaves_the_engine_without_weights_until_a_whole_one(
    worker: EngineWorker, kind: str
) -> None:
    """The sender ends after its first buckets. Whatever they put in place, nothing is sampled from it, and the next
    sync is as good as any."""
    came: list[str] = []

    def before(method: str, arguments: Any) -> None:
        came.append(method)
        if came.count("update_weights") == 4:
            raise Dies

    worker.submit(requests(PROMPTS), sampling(), 1)
    worker.cancel()
    model = fresh(7)
    with pytest.raises(Dies):
        deliver([Local(worker, before)], weights(model), as_stored, kind)
    for version in (1, 2):
        with pytest.raises(StaleWeights, match="version None"):
            worker.submit(requests(PROMPTS), sampling(), version)
    with pytest.raises(DamagedWeights, match="not brought to its end"):
        worker.accept(Sent(kind, 0, 0), 2)
    worker.accept(deliver([Local(worker)], weights(model), as_stored, kind), 2)
    worker.submit(requests(PROMPTS), sampling(), 2)
    assert largest_gap(model, PROMPTS, [group for _, group in sorted(worker.advance(0))]) < 1e-5


def test_pitfall_14_weights_that_change_on_their_way_are_refused(worker: EngineWorker) -> None:
    """A number of the last bucket changes between sender and engine."""
    sent = deliver([Local(worker)], weights(fresh(7)))

    def before(method: str, arguments: Any) -> None:
        if method == "update_weights":
            arguments[0]["stored"][0][3] ^= 1

    deliver([Local(worker, before)], weights(fresh(7)), lambda array: array, "store")
    with pytest.raises(DamagedWeights, match="arrived damaged"):
        worker.accept(sent, 2)
    with pytest.raises(StaleWeights, match="version None"):
        worker.submit(requests(PROMPTS), sampling(), 2)


def test_pitfall_14_keys_and_values_that_vllm_does_not_forget_end_the_sync(worker: EngineWorker) -> None:
    """A request that only vLLM knows of holds blocks of its cache."""
    engine: Any = worker._engine
    if not hasattr(engine, "_llm"):
        pytest.skip("transformers keeps none")
    engine.submit(requests([tuple(10 + j % 50 for j in range(260))]), sampling())
    engine.advance(1)
    held, engine._open = engine._open, {}
    with pytest.raises(CachedPrefixes, match="still holds a block"):
        deliver([Local(worker)], weights(fresh(7)))
    with pytest.raises(StaleWeights, match="version None"):
        worker.submit(requests(PROMPTS), sampling(), 1)
    engine._open = held
    worker.cancel()
    worker.accept(deliver([Local(worker)], weights(fresh(7))), 2)


def test_a_response_depends_on_its_seed_and_not_on_its_neighbours(engine: Engine) -> None:
    bring(engine, weights(fresh(8)))
    together = complete(engine, PROMPTS, sampling(n=3))
    assert complete(engine, PROMPTS, sampling(n=3)) == together
    tail = complete(engine, PROMPTS[5:], sampling(n=3), first=5)
    assert [[c.token_ids for c in group] for group in tail] == [[c.token_ids for c in group] for group in together[5:]]
    other = complete(engine, PROMPTS, sampling(n=3, seed=4))
    assert [[c.token_ids for c in g] for g in other] != [[c.token_ids for c in g] for g in together]
    responses = [c.token_ids for group in together for c in group]
    assert len(set(responses)) > len(responses) // 2


def test_requests_join_a_batch_under_way_and_get_what_they_would_get_alone(engine: Engine) -> None:
    bring(engine, weights(fresh(8)))
    alone = complete(engine, PROMPTS, sampling(n=3))
    ends = [max(len(c.token_ids) for c in group) for group in alone]
    engine.submit(requests(PROMPTS[:5]), sampling(n=3))
    first = dict(engine.advance(2))
    engine.submit(requests(PROMPTS[5:], first=5), sampling(n=3))
    second = dict(engine.advance())
    assert not set(first) & set(second)
    ended = first | second
    assert sorted(ended) == list(range(len(PROMPTS)))
    for number, group in enumerate(alone):
        assert [c.token_ids for c in ended[number]] == [c.token_ids for c in group]
        for one, other in zip(ended[number], group, strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
    assert engine.advance() == []
    if type(engine).__name__ == "VLLMEngine":  # which batches continuously
        assert {number for number, end in enumerate(ends) if end == 6} <= set(second), "two tokens are not six"
        assert any(len(c.token_ids) == 6 for group in alone[:5] for c in group), "some took longer than the round"


def test_pitfall_14_weights_are_not_replaced_under_requests_that_have_not_ended(engine: Engine) -> None:
    before, after = fresh(8), fresh(9)
    bring(engine, weights(before))
    engine.submit(requests(PROMPTS), sampling(n=2))
    with pytest.raises(RequestsInFlight, match=f"{len(PROMPTS)} requests"):
        bring(engine, weights(after))
    assert largest_gap(before, PROMPTS, [group for _, group in sorted(engine.advance())]) < 1e-5
    engine.submit(requests(PROMPTS), sampling(n=2))
    engine.advance(1)
    engine.cancel()
    assert engine.advance() == []
    bring(engine, weights(after))
    assert largest_gap(after, PROMPTS, complete(engine, PROMPTS, sampling())) < 1e-5


def test_an_engine_that_slept_runs_the_weights_that_came_after_it(engine: Engine) -> None:
    """vLLM on the CPU keeps its memory, and makes the same calls: its scheduler is paused until all of it is awake."""
    long_prompts = [tuple(10 + (i + j) % 50 for j in range(260)) for i in range(3)]
    for seed in (10, 11):
        model = fresh(seed)
        complete(engine, long_prompts, sampling(n=1))  # leaves cached prefixes
        engine.sleep()
        engine.wake_weights()
        bring(engine, weights(model))
        engine.wake_cache()
        assert largest_gap(model, long_prompts, complete(engine, long_prompts, sampling(n=2))) < 1e-5
        assert largest_gap(model, PROMPTS, complete(engine, PROMPTS, sampling())) < 1e-5
    engine.submit(requests(PROMPTS), sampling())
    with pytest.raises(RequestsInFlight, match=f"{len(PROMPTS)} requests have not ended: an engine that sleeps"):
        engine.sleep()
    assert len(engine.advance()) == len(PROMPTS), "and it is still awake"


def test_pitfall_13_a_response_ends_with_a_stop_token_or_counts_as_truncated(engine: Engine) -> None:
    """With one of those asked for, and with no other: the model's files name one more, which ends nothing here."""
    bring(engine, weights(fresh(9)))
    for ends in ((EOS,), (EOS, 30, ALSO_ENDS)):
        asked = Sampling(n=32, temperature=1.0, max_new_tokens=6, seed=3, stop_ids=ends)
        completions = [c for group in complete(engine, PROMPTS, asked) for c in group]
        for completion in completions:
            assert not set(ends) & set(completion.token_ids[:-1])
            assert completion.truncated == (completion.token_ids[-1] not in ends)
            assert len(completion.token_ids) == 6 or not completion.truncated
        assert {c.token_ids[-1] for c in completions if not c.truncated} == set(ends)
        assert {c.truncated for c in completions} == {True, False}
        inside = {token for c in completions for token in c.token_ids[:-1]}
        assert (ALSO_ENDS in inside) == (ALSO_ENDS not in ends)


@pytest.mark.slow
def test_the_models_generation_settings_change_no_sample(engine: Engine) -> None:
    """The directory's file asks for the likeliest token, a sharp temperature and a penalty on repetition."""
    model = fresh(11)
    bring(engine, weights(model))
    groups = complete(engine, PROMPTS, sampling(n=32))
    assert largest_gap(model, PROMPTS, groups) < 1e-5, "the penalty and the temperature would change log-probs"
    firsts = [{completion.token_ids[0] for completion in group} for group in groups]
    # of 32 draws from 64 tokens of about equal probability some 25 differ; top_k 1 or top_p .05 would leave a few
    assert min(len(tokens) for tokens in firsts) > 10
    assert max(len(completion.token_ids) for group in groups for completion in group) == 6


@pytest.mark.parametrize(("stated", "found"), [([5, 7], (5, 7)), (5, (5,)), (None, ())])
def test_what_ends_a_response_by_the_models_files(tmp_path: Path, stated: Any, found: tuple[int, ...]) -> None:
    model = make_model(ShapeConfig(), (EOS,))
    save_model(tmp_path, model.config, weights(model), None)
    settings = tmp_path / "generation_config.json"
    assert end_ids(str(tmp_path)) == (EOS,)
    settings.write_text(json.dumps({"eos_token_id": stated} if stated is not None else {}))
    assert end_ids(str(tmp_path)) == found
    settings.unlink()
    assert end_ids(str(tmp_path)) == (EOS,), "config.json's, where there are no generation settings"


def test_next_logprobs_are_those_of_a_forward_pass_at_temperature_1(engine: Engine) -> None:
    """After an update, too, and with prefixes that the cache has from other weights; of any tokens, in any number, one
    of them twice included."""
    long_prompts = [tuple(10 + (i + j) % 50 for j in range(260)) for i in range(2)]
    for seed in (12, 13):
        model = fresh(seed)
        bring(engine, weights(model))
        complete(engine, long_prompts, sampling(temperature=0.6))
        prefixes = [*PROMPTS, *long_prompts, *((*prompt, 40, 41) for prompt in long_prompts)]
        queries = [Query(p, tuple((17 * k + 5 * j) % 64 for j in range(1 + k % 7))) for k, p in enumerate(prefixes)]
        queries.append(Query(PROMPTS[0], (9, 9, 0)))
        found = engine.next_logprobs(queries)
        assert [len(logprobs) for logprobs in found] == [len(query.token_ids) for query in queries]
        for query, logprobs in zip(queries, found, strict=True):
            with torch.no_grad():
                logp = model(torch.tensor([query.prefix_ids])).logits[0, -1].log_softmax(-1)
            assert list(logprobs) == pytest.approx(logp[list(query.token_ids)].tolist(), abs=1e-5)
    assert engine.next_logprobs([]) == []


def test_next_logprobs_leave_what_is_sampled_as_it_is_and_wait_for_requests_to_end(engine: Engine) -> None:
    bring(engine, weights(fresh(8)))
    before = complete(engine, PROMPTS, sampling(n=3))
    engine.next_logprobs([Query(prompt, (1, 2)) for prompt in PROMPTS])
    assert complete(engine, PROMPTS, sampling(n=3)) == before
    engine.submit(requests(PROMPTS), sampling())
    with pytest.raises(RequestsInFlight, match=f"{len(PROMPTS)} requests"):
        engine.next_logprobs([Query(PROMPTS[0], (1,))])
    engine.cancel()
    assert engine.advance() == []


def test_requests_get_unrelated_seeds() -> None:
    seeds = {derived_seed(seed, index) for seed in range(200) for index in range(200)}
    assert len(seeds) > 39_900  # 40,000 draws from 2^31 collide less than once in the mean
    assert max(seeds) < 2**31


def test_top_k_and_top_p_keep_what_they_say() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
    base = Sampling(n=1, temperature=1.0, max_new_tokens=1, seed=0)
    kept = processed_logprobs(logits, Sampling(**{**vars_of(base), "top_k": 2})).exp()
    torch.testing.assert_close(kept, torch.tensor([[0.625, 0.375, 0.0, 0.0]]))
    # .5 alone does not reach .7, .5 + .3 does
    kept = processed_logprobs(logits, Sampling(**{**vars_of(base), "top_p": 0.7})).exp()
    torch.testing.assert_close(kept, torch.tensor([[0.625, 0.375, 0.0, 0.0]]))
    sharp = processed_logprobs(logits, Sampling(**{**vars_of(base), "temperature": 0.5})).exp()
    squares = torch.tensor([[0.25, 0.09, 0.0225, 0.0025]])
    torch.testing.assert_close(sharp, squares / squares.sum())


def vars_of(value: Sampling) -> dict[str, Any]:
    return {name: getattr(value, name) for name in Sampling.__dataclass_fields__}


@pytest.mark.parametrize("kind", ["qwen3", "llama"])
def test_a_saved_model_loads_like_any_other(tmp_path: Path, kind: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    shape = ShapeConfig(architecture=kind)
    model = make_model(shape, (EOS,))
    save_model(tmp_path, model.config, weights(model), make_tokenizer())
    loaded = AutoModelForCausalLM.from_pretrained(str(tmp_path))
    ids = torch.tensor([[2, 20, 30, 40]])
    torch.testing.assert_close(loaded(ids).logits, model(ids).logits)
    assert loaded.get_output_embeddings().weight.data_ptr() == loaded.get_input_embeddings().weight.data_ptr()
    assert AutoTokenizer.from_pretrained(str(tmp_path)).eos_token_id == EOS == loaded.config.eos_token_id
