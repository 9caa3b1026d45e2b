"""vLLM in this process, on CPU or GPU.

In-process because the engine's own process costs 26 s more at start on two cores and buys nothing to a Ray
actor, which already is a process. Weights are replaced through ``reload_weights``: on CPU the loaded
weights are repacked and no longer accept ``load_weights``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any

import torch
from torch import Tensor

from carerl import progress
from carerl.backends.engines.base import Query, Request, check_new_weights, check_queries
from carerl.backends.whole_checkpoint import check_finite, check_weights
from carerl.config.schema import RunConfig
from carerl.seeds import derived_seed
from carerl.types import Completion, Sampling


def prepare(config: RunConfig) -> None:
    """Imports vLLM, which reads these variables as it is imported."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    _tell_threads(config)
    if not config.rollout.gpus_per_actor:
        # The cores are shared with learner and reference, which take turns with the engine.
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(max(1, round(config.rollout.kv_cache_gib)))
    from vllm import LLM  # noqa: F401


def _tell_threads(config: RunConfig) -> None:
    """Says through OMP_NUM_THREADS what vLLM is to keep to. On a GPU it serves with one thread, as more would spin
    beside its own, unless that variable is set, and Ray sets it for every actor: so it is taken away where nobody asked
    for a number. On the CPU vLLM keeps what this process has and lets nobody change it afterwards."""
    if config.rollout.gpus_per_actor and not config.rollout.threads:
        os.environ.pop("OMP_NUM_THREADS", None)
    else:
        os.environ["OMP_NUM_THREADS"] = str(torch.get_num_threads())


class VLLMEngine:
    """See :class:`carerl.backends.engines.base.Engine`."""

    def __init__(self, config: RunConfig, model_dir: str):
        rollout = config.rollout
        on_gpu = rollout.gpus_per_actor > 0
        prepare(config)
        from vllm import LLM

        # vLLM takes a projection as loaded once one of its parts is, and leaves the others as they were drawn.
        check_weights(model_dir, config.model.trust_remote_code)
        check_finite(model_dir, most=None)  # in the files: vLLM packs what it has loaded
        device: dict[str, Any] = (
            {
                "gpu_memory_utilization": rollout.gpu_memory_utilization,
                "tensor_parallel_size": rollout.tensor_parallel,
                # In an actor with a reservation vLLM would look to Ray for its workers' GPUs, which this actor holds.
                "distributed_executor_backend": "mp" if rollout.tensor_parallel > 1 else "uni",
            }
            if on_gpu
            else {
                "kv_cache_memory_bytes": int(rollout.kv_cache_gib * 2**30),
                # A prompt in two steps makes vLLM rewind its request's generator, which one on the CPU cannot do.
                "enable_chunked_prefill": False,
            }
        )
        self._llm = LLM(
            model=model_dir,
            skip_tokenizer_init=True,  # ids in, ids out: no text ever reaches the engine
            dtype=config.model.dtype,
            max_model_len=rollout.max_model_len,
            max_num_seqs=rollout.max_batch_rows,
            max_num_batched_tokens=max(rollout.max_model_len, 8192),
            enforce_eager=rollout.enforce_eager,
            enable_prefix_caching=True,
            # Log-probs of the distribution sampled from, not of the raw logits: they are what an
            # importance weight needs when the temperature is not 1.
            logprobs_mode="processed_logprobs",
            trust_remote_code=config.model.trust_remote_code,
            load_format="safetensors",  # a pickled file can run code as it is read
            generation_config="vllm",  # no default of vLLM's comes from the model's files
            disable_log_stats=True,
            seed=0,
            **device,
        )
        self._open: set[int] = set()

    def submit(self, requests: Sequence[Request], sampling: Sampling) -> None:
        from vllm import SamplingParams, TokensPrompt
        from vllm.sampling_params import RequestOutputKind

        for request in requests:
            params = SamplingParams(
                n=sampling.n,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                max_tokens=sampling.max_new_tokens,
                seed=derived_seed(sampling.seed, request.number),
                stop_token_ids=sorted(sampling.stop_ids),
                ignore_eos=True,  # vLLM has a list of its own; what ends a response stands above
                logprobs=0,
                flat_logprobs=True,  # lists instead of an object a token
                detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            prompt = TokensPrompt(prompt_token_ids=list(request.prompt_ids))
            self._llm.llm_engine.add_request(str(request.number), prompt, params)
            self._open.add(request.number)

    def advance(self, steps: int = 0) -> list[tuple[int, list[Completion]]]:
        engine = self._llm.llm_engine
        ended = []
        for _ in range(steps) if steps else count():
            if not engine.has_unfinished_requests():
                break
            ended += [output for output in engine.step() if output.finished]
            progress.step()
        numbered = [(int(output.request_id), [self._completion(o) for o in output.outputs]) for output in ended]
        self._open.difference_update(number for number, _ in numbered)
        return numbered

    def next_logprobs(self, queries: Sequence[Query]) -> list[tuple[float, ...]]:
        """A request of one token for each query: the prefix is looked up in the cache, and only the log-probs asked for
        leave the sampler. (``prompt_logprobs`` would read the whole prefix again, and ``allowed_token_ids`` changes the
        distribution.)"""
        from vllm import SamplingParams, TokensPrompt
        from vllm.sampling_params import RequestOutputKind

        check_queries(len(self._open))
        engine = self._llm.llm_engine
        for number, query in enumerate(queries):
            params = SamplingParams(
                temperature=1.0,
                max_tokens=1,
                logprob_token_ids=list(query.token_ids),
                detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            engine.add_request(str(number), TokensPrompt(prompt_token_ids=list(query.prefix_ids)), params)
        found: dict[int, Any] = {}
        while engine.has_unfinished_requests():
            found |= {int(output.request_id): output.outputs[0].logprobs[0] for output in engine.step()}
            progress.step()
        return [
            tuple(float(found[number][token].logprob) for token in query.token_ids)
            for number, query in enumerate(queries)
        ]

    def cancel(self) -> None:
        self._llm.llm_engine.abort_request([str(number) for number in sorted(self._open)])
        self._open.clear()

    @staticmethod
    def _completion(output: Any) -> Completion:
        ids, flat = tuple(output.token_ids), output.logprobs
        drawn = [flat.token_ids[start] for start in flat.start_indices]  # of each position what was sampled comes first
        if tuple(drawn) != ids:
            raise RuntimeError(f"vLLM gave log-probs of other tokens ({drawn[:8]}…) than it sampled ({ids[:8]}…)")
        logprobs = tuple(float(flat.logprobs[start]) for start in flat.start_indices)
        return Completion(ids, logprobs, truncated=output.finish_reason == "length")

    def update_weights(self, tensors: Iterable[tuple[str, Tensor]]) -> None:
        check_new_weights(len(self._open))
        self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": list(tensors)})
        self._llm.apply_model(_repack_tied_head)
        # vLLM keeps cached prefixes across an update: without this, new weights meet old keys and values.
        self._llm.reset_prefix_cache()


def _repack_tied_head(model: Any) -> None:
    """On CPU a head tied to the embedding keeps a packed copy of its own, which ``reload_weights`` passes over.

    The checkpoint has no tensor for such a head, so the copy would stay that of the first weights.
    """
    head = getattr(model, "lm_head", None)
    method = getattr(head, "quant_method", None)
    if head is not None and hasattr(head, "cpu_linear") and method is not None:
        method.process_weights_after_loading(head)
