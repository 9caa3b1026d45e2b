"""A rollout engine on plain transformers: the oracle in tests, and the fallback where vLLM has no build.

It is written to be correct first: float32 log-probs from the whole softmax, one generator per response. It decodes up
to ``rollout.max_batch_rows`` rows together, with a key–value cache and left padding. No request joins a running batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from carerl import progress
from carerl.backends.engines.base import (
    Query,
    Request,
    check_new_weights,
    check_queries,
    check_requests,
    check_sleep,
    limit,
)
from carerl.backends.lora import adapt, is_adapter, on_its_way
from carerl.backends.models import load_model
from carerl.backends.transfer.digest import Received, Tally
from carerl.backends.transfer.host import HostReceiver
from carerl.config.schema import RunConfig
from carerl.inference.confidence import spreads_of
from carerl.records.spread import TokenSpread
from carerl.seeds import derived_seed
from carerl.types import Completion, Sampling


class _Row:
    """One response as it is drawn. ``k``: its number among those to the request."""

    def __init__(self, request: Request, sampling: Sampling, k: int):
        self.request, self._sampling = request, sampling
        seed = derived_seed(sampling.seed, request.number) + k if request.seed is None else request.seed
        self._generator = torch.Generator().manual_seed(seed)
        self._watcher = request.floor.watch() if request.floor is not None else None
        self._tokens: list[int] = []
        self._logprobs: list[float] = []
        self._spreads: list[TokenSpread] = []
        self._stopped = self._floored = False

    @property
    def ended(self) -> bool:
        return self._stopped or self._floored or len(self._tokens) >= limit(self.request, self._sampling)

    def draw(self, logp_V: Tensor, spread: TokenSpread | None) -> Tensor:
        """Returns the next token, a scalar. A row that has ended goes along with its batch: its tokens count for
        nothing. ``spread``: of these log-probs, if the request asks."""
        if self.ended:
            return torch.tensor(0)
        noise_V = torch.empty(logp_V.shape[0]).exponential_(generator=self._generator)
        # argmax of p / Exp(1) noise is an exact draw from p.
        chosen = logp_V.argmax() if self._sampling.temperature == 0 else (logp_V - noise_V.log()).argmax()
        token = int(chosen)
        self._tokens.append(token)
        self._logprobs.append(float(logp_V[token]))
        self._stopped = token in self._sampling.stop_ids
        if spread is not None:
            self._spreads.append(spread)
            if self._watcher is not None and not self._stopped:
                self._floored = self._watcher(token, spread)
        return chosen

    def completion(self) -> Completion:
        """Returns the response, which has ended."""
        return Completion(
            tuple(self._tokens),
            tuple(self._logprobs),
            truncated=not self._stopped and not self._floored,
            spreads=tuple(self._spreads),
            floored=self._floored,
        )


def _spreads(rows: list[_Row], logp_BV: Tensor) -> dict[int, TokenSpread]:
    """Returns how spread the distributions are of the open rows whose requests ask, by row. Exact."""
    found: dict[int, TokenSpread] = {}
    for top in {row.request.top for row in rows if row.request.top}:
        asked = [b for b, row in enumerate(rows) if row.request.top == top and not row.ended]
        found |= zip(asked, spreads_of(logp_BV[asked], top), strict=True)
    return found


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
        check_requests(requests, sampling)
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

    def next_logprobs(self, queries: Sequence[Query]) -> list[tuple[float, ...]]:
        rows = self._next_rows([query.prefix_ids for query in queries])
        return [tuple(logp_V[list(query.token_ids)].tolist()) for query, logp_V in zip(queries, rows, strict=True)]

    def likeliest(self, prefixes: Sequence[tuple[int, ...]], k: int) -> list[list[tuple[int, float]]]:
        found = []
        for logp_V in self._next_rows(prefixes):
            ordered_V, order_V = logp_V.sort(descending=True, stable=True)  # of equal ones the lower id stays in front
            found.append(list(zip(order_V[:k].tolist(), ordered_V[:k].tolist(), strict=True)))
        return found

    @torch.inference_mode()
    def _next_rows(self, prefixes: Sequence[tuple[int, ...]]) -> Iterator[Tensor]:
        """Yields (V,) the log-probs of the next token after each prefix, at temperature 1."""
        check_queries(len(self._queue))
        for start in range(0, len(prefixes), self._max_rows):
            ids_BS, attention_BS = self._padded([list(prefix) for prefix in prefixes[start : start + self._max_rows]])
            logits_BV = self._model(
                input_ids=ids_BS, attention_mask=attention_BS, position_ids=_positions(attention_BS), logits_to_keep=1
            ).logits[:, -1]
            progress.step()
            yield from logits_BV.float().cpu().log_softmax(-1)

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
        rows = [_Row(request, sampling, k) for request in requests for k in range(n)]
        for start in range(0, len(rows), self._max_rows):
            self._decode(rows[start : start + self._max_rows], sampling)
        done = [row.completion() for row in rows]
        return [(request.number, done[i * n : (i + 1) * n]) for i, request in enumerate(requests)]

    @torch.inference_mode()
    def _decode(self, rows: list[_Row], sampling: Sampling) -> None:
        ids_BS, attention_BS = self._padded([list(row.request.prompt_ids) for row in rows])
        cache = None
        while not all(row.ended for row in rows):
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
            spreads = _spreads(rows, logp_BV)
            chosen_B = torch.stack([row.draw(logp_BV[b], spreads.get(b)) for b, row in enumerate(rows)])
            ids_BS = chosen_B[:, None].to(self._device)
            attention_BS = torch.cat([attention_BS, torch.ones_like(attention_BS[:, :1])], dim=1)

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
