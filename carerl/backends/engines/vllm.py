"""A rollout engine on vLLM, on CPU or GPU.

vLLM's core runs inside this process. In a process of its own it decodes on by itself: ``advance`` would count messages
instead of steps, requests would join a batch whenever they arrive, and a cancelled one would stop at any token. What an
engine does would then depend on time, which :class:`carerl.backends.engines.base.Engine` rules out. Measured on two
cores, three warm batches each: 7 % more tokens/s with the tiny model, 6 % fewer with the 135M one, a start that takes
11 s longer, and seven calls of ``advance(8)`` for 48 tokens. ``python -m tests.gpu engine engine_mp`` measures both
on a GPU.

Weights are replaced by vLLM's own calls of a weight transfer, on CPU and GPU alike
(:mod:`carerl.backends.transfer.vllm_worker`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from itertools import count
from typing import Any

import torch

from carerl import progress
from carerl.backends.engines.base import (
    Query,
    Request,
    check_new_weights,
    check_queries,
    check_requests,
    check_sleep,
)
from carerl.backends.engines.vllm_requests import Watch
from carerl.backends.transfer.digest import DamagedWeights, Received
from carerl.backends.whole_checkpoint import check_finite, check_weights
from carerl.config.roles import shares_gpu
from carerl.config.schema import RunConfig
from carerl.config.transfer import transfer_kind
from carerl.records.spread import MOST_TOP
from carerl.types import Completion, Sampling

KEEP, DROP = 1, 2  # of weights while an engine sleeps: vLLM's levels


def prepare(config: RunConfig) -> None:
    """Sets the environment variables that vLLM reads on import, and imports it."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    tell_batches(config)
    _tell_threads(config)
    if not config.rollout.gpus_per_actor:
        # The cores are shared with learner and reference, which take turns with the engine.
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        # It would replace kv_cache_memory_bytes, in whole GiB.
        os.environ.pop("VLLM_CPU_KVCACHE_SPACE", None)
    from vllm import LLM  # noqa: F401


def tell_batches(config: RunConfig) -> None:
    """Tells vLLM whether a sequence must come out the same in every batch. It reads the variable while it is imported,
    and replaces torch's operations for the whole process. Raises RuntimeError where this process has vLLM of the other
    kind already, from an earlier run of a sweep."""
    wanted = "1" if config.rollout.batch_invariant else "0"
    if "vllm" in sys.modules and os.environ.get("VLLM_BATCH_INVARIANT", "0") != wanted:
        raise RuntimeError(
            "rollout.batch_invariant cannot change in a process that has vLLM already: start a sweep for each value"
        )
    os.environ["VLLM_BATCH_INVARIANT"] = wanted


def _tell_threads(config: RunConfig) -> None:
    """Tells vLLM through OMP_NUM_THREADS how many threads to use.

    On a GPU vLLM uses one thread if the variable is not set, because more would spin beside its own. Ray sets the
    variable for every actor, so it is removed if the settings ask for no number. On the CPU vLLM keeps the threads that
    this process has, and they cannot be changed later.
    """
    if config.rollout.gpus_per_actor and not config.rollout.threads:
        os.environ.pop("OMP_NUM_THREADS", None)
    else:
        os.environ["OMP_NUM_THREADS"] = str(torch.get_num_threads())


def receiving_backend(config: RunConfig) -> str:
    """Returns vLLM's name of the engine that receives the run's weights."""
    from carerl.backends.transfer.vllm_worker import backend_for

    return backend_for(transfer_kind(config))


ADAPTER_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # vLLM makes room for so many


class CachedPrefixes(RuntimeError):
    """Says that vLLM keeps keys and values of old weights."""


class VLLMEngine:
    """See :class:`carerl.backends.engines.base.Engine`."""

    def __init__(self, config: RunConfig, model_dir: str):
        rollout = config.rollout
        on_gpu = rollout.gpus_per_actor > 0
        prepare(config)
        from vllm import LLM

        # vLLM counts a projection as loaded once one of its parts is. The other parts would stay as drawn at random.
        check_weights(model_dir, config.model.trust_remote_code)
        check_finite(model_dir, most=None)  # in the files, because vLLM packs what it has loaded
        device: dict[str, Any] = (
            {
                "gpu_memory_utilization": rollout.gpu_memory_utilization,
                "tensor_parallel_size": rollout.tensor_parallel,
                # Otherwise vLLM would ask Ray for its workers' GPUs, and this actor holds them already.
                "distributed_executor_backend": "mp" if rollout.tensor_parallel > 1 else "uni",
                "enable_sleep_mode": shares_gpu(config),
            }
            if on_gpu
            else {
                "kv_cache_memory_bytes": int(rollout.kv_cache_gib * 2**30),
                # For a prompt in two steps vLLM rewinds the request's generator, which is not possible on the CPU.
                "enable_chunked_prefill": False,
            }
        )
        lora = config.learner.lora
        adapters: dict[str, Any] = {}
        if lora.rank:
            adapters = {
                "enable_lora": True,
                "max_loras": 1,
                "max_lora_rank": min(rank for rank in ADAPTER_RANKS if rank >= lora.rank),
                "lora_target_modules": list(lora.targets),  # otherwise the head would have adapters too
            }
        self._alpha = lora.alpha
        self._sleep_level = KEEP if lora.rank else DROP
        self._llm = LLM(
            model=model_dir,
            skip_tokenizer_init=True,  # ids in, ids out: no text ever reaches the engine
            dtype=config.model.dtype,
            max_model_len=rollout.max_model_len,
            max_num_seqs=rollout.max_batch_rows,
            max_num_batched_tokens=max(rollout.max_model_len, 8192),
            enforce_eager=rollout.enforce_eager,
            enable_prefix_caching=True,
            # Log-probs of the distribution that is sampled from, not of the raw logits: an importance weight needs
            # them when the temperature is not 1.
            logprobs_mode="processed_logprobs",
            max_logprobs=MOST_TOP,
            trust_remote_code=config.model.trust_remote_code,
            load_format="safetensors",  # a pickled file can run code as it is read
            generation_config="vllm",  # take no sampling defaults from the model's files
            weight_transfer_config={"backend": receiving_backend(config)},
            worker_extension_cls="carerl.backends.transfer.vllm_worker.Receives",
            disable_log_stats=True,
            seed=0,
            **device,
            **adapters,
        )
        self._with_adapters, self._adapted = bool(adapters), False  # the latter: once adapters have come
        self._words = int(self._llm.llm_engine.model_config.get_vocab_size())
        self._open: dict[int, Watch] = {}

    def submit(self, requests: Sequence[Request], sampling: Sampling) -> None:
        check_requests(requests, sampling)
        for request in requests:
            watch = self._open[request.number] = Watch(request, self._words)
            self._add(str(request.number), request.prompt_ids, streamed=watch.streamed, **watch.settings(sampling))

    def _add(self, name: str, prompt_ids: Sequence[int], streamed: bool = False, **settings: Any) -> None:
        """Sends a request to vLLM's core. ``streamed``: its tokens come after each step, and not all at its end."""
        from vllm import SamplingParams, TokensPrompt
        from vllm.sampling_params import RequestOutputKind

        kind = RequestOutputKind.CUMULATIVE if streamed else RequestOutputKind.FINAL_ONLY
        params = SamplingParams(detokenize=False, output_kind=kind, **settings)
        prompt = TokensPrompt(prompt_token_ids=list(prompt_ids))
        self._llm.llm_engine.add_request(name, prompt, params, lora_request=self._adapters())

    def advance(self, steps: int = 0) -> list[tuple[int, list[Completion]]]:
        """Decodes, see :class:`carerl.backends.engines.base.Engine`.

        Only requests with a floor are streamed. What a floor ends is aborted before the next step: nothing of it is
        decoded any more, and its blocks are free. On a GPU vLLM may have begun that step already, and drops its token.
        """
        engine = self._llm.llm_engine
        ended: list[tuple[int, list[Completion]]] = []
        for _ in range(steps) if steps else count():
            if not engine.has_unfinished_requests():
                break
            for output in engine.step():
                number = int(output.request_id)
                if number not in self._open:
                    continue  # a step that had begun as its floor ended it
                watch = self._open[number]
                floored = watch.ends(output)
                if floored and not output.finished:
                    engine.abort_request([output.request_id])
                if floored or output.finished:
                    ended.append((number, [watch.completion(one, floored) for one in output.outputs]))
                    del self._open[number]
            progress.step()
        return ended

    def next_logprobs(self, queries: Sequence[Query]) -> list[tuple[float, ...]]:
        """Sends a request of one token for each query. The prefix is taken from the cache, and only the log-probs asked
        for leave the sampler.

        The alternatives are worse: ``prompt_logprobs`` would read the whole prefix again, and ``allowed_token_ids``
        changes the distribution.
        """
        settings = [{"logprob_token_ids": list(query.token_ids)} for query in queries]
        found = self._next_tokens([query.prefix_ids for query in queries], settings)
        return [
            tuple(float(logprobs[token].logprob) for token in query.token_ids)
            for query, logprobs in zip(queries, found, strict=True)
        ]

    def likeliest(self, prefixes: Sequence[tuple[int, ...]], k: int) -> list[list[tuple[int, float]]]:
        """Sends a request of one token for each prefix. vLLM breaks ties as it likes, so more tokens are asked for than
        are wanted. The lower id is told from a higher one among ``MOST_TOP`` equally likely tokens, not among more."""
        if k > MOST_TOP:
            raise ValueError(f"{k} tokens are asked for, but vLLM gives at most {MOST_TOP}")
        settings = [{"logprobs": min(MOST_TOP, self._words)}] * len(prefixes)
        found = self._next_tokens(prefixes, settings)
        by_rank = [
            sorted(
                ((token, float(one.logprob)) for token, one in logprobs.items()), key=lambda pair: (-pair[1], pair[0])
            )
            for logprobs in found
        ]
        return [ranked[:k] for ranked in by_rank]

    def _next_tokens(self, prefixes: Sequence[tuple[int, ...]], settings: Sequence[dict[str, Any]]) -> list[Any]:
        """Returns vLLM's log-probs of the next token after each prefix, at temperature 1, by token."""
        check_queries(len(self._open))
        engine = self._llm.llm_engine
        for number, (prefix_ids, own) in enumerate(zip(prefixes, settings, strict=True)):
            self._add(str(number), prefix_ids, temperature=1.0, max_tokens=1, **own)
        found: dict[int, Any] = {}
        while engine.has_unfinished_requests():
            found |= {int(output.request_id): output.outputs[0].logprobs[0] for output in engine.step()}
            progress.step()
        return [found[number] for number in range(len(prefixes))]

    def _adapters(self) -> Any:
        """Returns what a request names to be decoded with the adapters that have come; None before any have, and for a
        model without adapters."""
        from carerl.backends.transfer.vllm_worker import the_adapters

        return the_adapters() if self._adapted else None

    def cancel(self) -> None:
        self._llm.llm_engine.abort_request([str(number) for number in sorted(self._open)])
        self._open.clear()

    def init_transfer(self, info: dict[str, Any]) -> None:
        self._llm.collective_rpc("carerl_init", args=(info,))

    def start_update(self) -> None:
        check_new_weights(len(self._open))
        self._llm.collective_rpc("carerl_start")

    def update(self, info: dict[str, Any]) -> None:
        self._llm.collective_rpc("carerl_update", args=(info,))

    def finish_update(self) -> Received:
        """Puts the new weights in use. Raises CachedPrefixes if old keys and values would meet them."""
        first, *others = self._llm.collective_rpc("carerl_finish", args=(self._alpha,))
        if any(other != first for other in others):
            raise DamagedWeights("the engine's tensor-parallel workers did not receive the same weights")
        # vLLM keeps cached prefixes across an update, and only warns if it cannot forget them.
        if not self._llm.reset_prefix_cache():
            raise CachedPrefixes(
                "vLLM did not forget its cached prefixes, because something still holds a block of its cache: old keys "
                "and values would meet new weights"
            )
        self._adapted = self._with_adapters
        found: Received = first
        return found

    def sleep(self) -> None:
        """Drops weights and cache: the next sync brings other weights, so a copy of them on the host would be for
        nothing (vLLM's sleep level 2). With adapters the model's weights wait on the host (level 1), because a sync
        brings adapters alone. vLLM keeps the model's buffers on the host, such as the tables of rotary
        embeddings, forgets cached prefixes, and keeps CUDA graphs, whose addresses stay reserved. On the CPU it keeps
        weights and cache too.

        vLLM raises AssertionError if the GPU has less free memory after this than before, whoever took it. So the
        learner must wait meanwhile.
        """
        check_sleep(len(self._open))
        self._llm.sleep(level=self._sleep_level)

    def wake_weights(self) -> None:
        self._llm.wake_up(tags=["weights"])

    def wake_cache(self) -> None:
        """Takes memory for the cache. From here on vLLM's scheduler works again."""
        self._llm.wake_up(tags=["kv_cache"])
