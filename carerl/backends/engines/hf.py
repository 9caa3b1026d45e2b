"""A rollout engine on plain transformers: the oracle in tests, and the fallback where vLLM has no build.

It is written to be correct first: float32 log-probs from the whole softmax, one generator per response. It decodes up
to ``rollout.max_batch_rows`` rows together, with a key–value cache and left padding. No request joins a running batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from carerl import progress
from carerl.backends.engines.base import Query, Request, check_new_weights, check_queries, check_sleep
from carerl.backends.lora import adapt, is_adapter, on_its_way
from carerl.backends.models import load_model
from carerl.backends.transfer.digest import Received, Tally
from carerl.backends.transfer.host import HostReceiver
from carerl.config.schema import RunConfig
from carerl.seeds import derived_seed
from carerl.types import Completion, Sampling


class HFEngine:
    """See :class:`carerl.backends.engines.base.Engine`."""

    def __init__(self, config: RunConfig, model_dir: str):
        self._device = torch.device("cuda" if config.rollout.gpus_per_actor > 0 else "cpu")
        model = load_model(model_dir, config.model.dtype, config.model.trust_remote_code)
        if config.learner.lora.rank:
            adapt(model, config.learner.lora)
        self._model = model.to(self._device).eval()
        self._max_rows = config.rollout.max_batch_rows
        self._queue: list[tuple[Request, Sampling]] = []
        self._receiver, self._tally = HostReceiver(), Tally()
        self._adapted = config.learner.lora.rank > 0
        # weights of an engine that sleeps: shapes of those that were dropped, on the host those that no sync brings
        self._asleep: dict[torch.nn.Parameter, torch.Size | Tensor] = {}

    def submit(self, requests: Sequence[Request], sampling: Sampling) -> None:
        self._queue += [(request, sampling) for request in requests]

    def advance(self, steps: int = 0) -> list[tuple[int, list[Completion]]]:
        """Decodes one batch to its end if ``steps`` is not 0, else all batches."""
        ended: list[tuple[int, list[Completion]]] = []
        while self._queue and not (steps and ended):
            sampling, alike = next(groupby(self._queue, key=itemgetter(1)))
            batch = [request for request, _ in alike][: max(1, self._max_rows // sampling.n)]
            del self._queue[: len(batch)]
            ended += self._complete(batch, sampling)
        return ended

    @torch.inference_mode()
    def next_logprobs(self, queries: Sequence[Query]) -> list[tuple[float, ...]]:
        check_queries(len(self._queue))
        found: list[tuple[float, ...]] = []
        for start in range(0, len(queries), self._max_rows):
            part = queries[start : start + self._max_rows]
            ids_BS, attention_BS = self._padded([list(query.prefix_ids) for query in part])
            logits_BV = self._model(
                input_ids=ids_BS, attention_mask=attention_BS, position_ids=_positions(attention_BS), logits_to_keep=1
            ).logits[:, -1]
            progress.step()
            logp_BV = logits_BV.float().cpu().log_softmax(-1)
            found += [tuple(logp_BV[b, list(query.token_ids)].tolist()) for b, query in enumerate(part)]
        return found

    def _padded(self, rows: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Returns ids and attention mask (B, S), padded on the left."""
        width = max(len(row) for row in rows)
        ids_BS = torch.tensor([[0] * (width - len(row)) + row for row in rows], device=self._device)
        attention_BS = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=self._device)
        return ids_BS, attention_BS

    def cancel(self) -> None:
        self._queue.clear()

    def _complete(self, requests: list[Request], sampling: Sampling) -> list[tuple[int, list[Completion]]]:
        n = sampling.n
        rows = [list(request.prompt_ids) for request in requests for _ in range(n)]
        seeds = [derived_seed(sampling.seed, request.number) + k for request in requests for k in range(n)]
        done: list[Completion] = []
        for start in range(0, len(rows), self._max_rows):
            part = slice(start, start + self._max_rows)
            done += self._decode(rows[part], seeds[part], sampling)
        return [(request.number, done[i * n : (i + 1) * n]) for i, request in enumerate(requests)]

    @torch.inference_mode()
    def _decode(self, rows: list[list[int]], seeds: list[int], sampling: Sampling) -> list[Completion]:
        ids_BS, attention_BS = self._padded(rows)
        ends = set(sampling.stop_ids)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        tokens: list[list[int]] = [[] for _ in rows]
        logprobs: list[list[float]] = [[] for _ in rows]
        open_rows = set(range(len(rows)))
        cache = None
        for _ in range(sampling.max_new_tokens):
            out = self._model(
                input_ids=ids_BS,
                attention_mask=attention_BS,
                position_ids=_positions(attention_BS)[:, -ids_BS.shape[1] :],
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            progress.step()
            cache = out.past_key_values
            logp_BV = processed_logprobs(out.logits[:, -1].float().cpu(), sampling)
            noise_BV = torch.stack([torch.empty(logp_BV.shape[1]).exponential_(generator=g) for g in generators])
            # argmax of p / Exp(1) noise is an exact draw from p.
            chosen_B = logp_BV.argmax(-1) if sampling.temperature == 0 else (logp_BV - noise_BV.log()).argmax(-1)
            for b in sorted(open_rows):
                token = int(chosen_B[b])
                tokens[b].append(token)
                logprobs[b].append(float(logp_BV[b, token]))
                if token in ends:
                    open_rows.discard(b)
            if not open_rows:
                break
            ids_BS = chosen_B[:, None].to(self._device)
            attention_BS = torch.cat([attention_BS, torch.ones_like(attention_BS[:, :1])], dim=1)
        return [
            Completion(tuple(t), tuple(lp), truncated=b in open_rows)
            for b, (t, lp) in enumerate(zip(tokens, logprobs, strict=True))
        ]

    def init_transfer(self, info: dict[str, Any]) -> None:
        self._receiver.init(info["segments"])

    def start_update(self) -> None:
        check_new_weights(len(self._queue))
        self._tally = Tally()

    @torch.no_grad()
    def update(self, info: dict[str, Any]) -> None:
        own = {on_its_way(name): parameter for name, parameter in self._model.named_parameters()}
        for name, tensor in self._tally.passing(self._receiver.tensors(info)):
            if name in own and own[name].shape == tensor.shape:  # others are found when what came is compared
                own[name].copy_(tensor)

    def finish_update(self) -> Received:
        return self._tally.received

    def sleep(self) -> None:
        """Drops the weights that a sync brings, and moves the others to the host: with adapters, the model's. Buffers
        stay: they are small."""
        check_sleep(len(self._queue))
        for name, parameter in self._model.named_parameters():
            stays = self._adapted and not is_adapter(name)
            self._asleep[parameter] = parameter.data.cpu() if stays else parameter.shape
            parameter.data = parameter.data.new_empty(0)
        if self._device.type != "cpu":
            torch.cuda.empty_cache()

    def wake_weights(self) -> None:
        while self._asleep:
            parameter, kept = self._asleep.popitem()
            parameter.data = kept.to(self._device) if isinstance(kept, Tensor) else parameter.data.new_empty(kept)

    def wake_cache(self) -> None:
        """Does nothing: the cache is made anew for each batch."""


def _positions(attention_BS: Tensor) -> Tensor:
    """Returns the position of each token in its row, not counting padding."""
    return (attention_BS.cumsum(-1) - 1).clamp(min=0)


def processed_logprobs(logits_BV: Tensor, sampling: Sampling) -> Tensor:
    """Returns log-probs after temperature, top-k and top-p; -inf for tokens that cannot be drawn."""
    logits_BV = logits_BV if sampling.temperature == 0 else logits_BV / sampling.temperature
    if sampling.top_k > 0:
        kth_B1 = logits_BV.topk(min(sampling.top_k, logits_BV.shape[-1])).values[:, -1:]
        logits_BV = logits_BV.masked_fill(logits_BV < kth_B1, -torch.inf)
    if sampling.top_p < 1:
        ordered_BV, order_BV = logits_BV.sort(descending=True)
        before_BV = ordered_BV.softmax(-1).cumsum(-1) - ordered_BV.softmax(-1)
        drop_BV = torch.zeros_like(before_BV, dtype=torch.bool).scatter(1, order_BV, before_BV >= sampling.top_p)
        logits_BV = logits_BV.masked_fill(drop_BV, -torch.inf)
    return logits_BV.log_softmax(-1)
