"""What an actor's memory is made of, from the model's shape alone. All figures in GiB, each an estimate.

Bytes per number: 4 in float32, 2 in bfloat16, 8 in float64. Left out: the CUDA context and libraries (1 to 2
GiB a process), the Python process itself (about 1 GiB), and fragmentation.
"""

from __future__ import annotations

from carerl.config.schema import RunConfig, ShapeConfig
from carerl.config.shapes import count_parameters

BYTES = {"float32": 4, "bfloat16": 2, "float64": 8}
GIB = float(2**30)


def learner_memory(config: RunConfig, shape: ShapeConfig, row_tokens: int) -> dict[str, float]:
    """Of one rank. N parameters, R ranks, L layers, d hidden, V vocabulary, b bytes of the compute dtype.

    - weights 4N/R, gradients 4N/R, AdamW's two moments 8N/R: float32 whatever the compute dtype, sharded
    - gathered: the largest unit that is whole at one time (a layer, or the embedding), b bytes each, twice
      (one is used while the next arrives), when R > 1
    - activations of ``micro_batch_rows`` rows of ``row_tokens`` tokens: per token and layer
      ``6d + 2(h + kv)·head + 4·mlp`` numbers kept for the backward pass (inputs of both norms, queries, keys,
      values, attention's output, the gated MLP's four); with checkpointing d per layer and one layer's all
    - head: C·V numbers for C tokens of logits at a time, see ``head_chunks``, float32 (float64 for that compute dtype)
    - head matrices, V·d each, whole on every rank: the policy's gradient while it is summed and, where the compute
      dtype is narrower, its float32 copy; and the frozen reference head with its copy, which evaluations use whatever
      the estimator
    """
    ranks = config.learner.ranks
    p = count_parameters(shape)
    b = BYTES[config.learner.compute_dtype]
    tokens = min(config.learner.micro_batch_rows, _rows_per_rank(config)) * row_tokens
    size = shape.head_dim
    per_layer = 6 * shape.hidden_size + 2 * (shape.num_heads + shape.num_kv_heads) * size + 4 * shape.intermediate_size
    if config.learner.gradient_checkpointing:
        kept = shape.num_layers * shape.hidden_size + per_layer
    else:
        kept = shape.num_layers * per_layer
    chunk = min(config.learner.head_chunk_tokens, tokens)
    wide = max(b, BYTES["float32"])
    matrices = wide + (wide if b < wide else 0)
    if config.kind == "rl":
        own = BYTES[config.reference.compute_dtype]
        matrices += own + (wide if own < wide else 0)
    return {
        "weights": 4 * p.total / ranks / GIB,
        "gradients": 4 * p.total / ranks / GIB,
        "optimizer": 8 * p.total / ranks / GIB,
        "gathered": 2 * b * p.largest_block / GIB if ranks > 1 else 0.0,
        "activations": b * tokens * kept / GIB,
        "head": head_chunks(config) * wide * chunk * shape.vocab_size / GIB,
        "head matrices": matrices * shape.vocab_size * shape.hidden_size / GIB,
    }


def head_chunks(config: RunConfig) -> int:
    """How many tables of C × V numbers are alive at the peak of a forward and backward pass; measured, and held to it
    by the tests of :mod:`carerl.algorithms.token_statistics`. 3.1: log-probs, gradient, probabilities. For an exact
    divergence 6.3, and 11.3 for Jensen–Shannon."""
    if getattr(config.regularizer, "estimator", None) != "full":
        return 4
    return 12 if config.regularizer.name == "js" else 7


def _rows_per_rank(config: RunConfig) -> int:
    if config.kind == "sft":
        rows = int(getattr(config.task, "rows_per_step", config.learner.micro_batch_rows))
    else:
        groups = config.prompts_per_step // config.algorithm.minibatches
        rows = groups * config.algorithm.group_size
    return -(-rows // config.learner.ranks)


def kv_bytes_per_token(config: RunConfig, shape: ShapeConfig) -> int:
    """Keys and values of one token in all layers: 2·L·kv·head·b bytes, b of ``model.dtype``."""
    return 2 * shape.num_layers * shape.num_kv_heads * shape.head_dim * BYTES[config.model.dtype]


def rollout_memory(config: RunConfig, shape: ShapeConfig) -> dict[str, float]:
    """Of one engine, all its GPUs together.

    Weights b·N. The KV cache is what the engine reserves: ``kv_cache_gib`` on the CPU, on GPUs what
    ``gpu_memory_utilization`` leaves beside the weights where ``cluster.gpu_memory_gib`` is known, else what
    ``max_batch_rows`` sequences of full length would take. Activations: logits of one token per sequence in
    float32, 4·rows·V.
    """
    r = config.rollout
    weights = BYTES[config.model.dtype] * count_parameters(shape).total / GIB
    logits = 4 * r.max_batch_rows * shape.vocab_size / GIB
    wanted = r.max_batch_rows * r.max_model_len * kv_bytes_per_token(config, shape) / GIB
    if r.gpus_per_actor == 0:
        cache = r.kv_cache_gib if r.engine == "vllm" else wanted
    elif config.cluster.gpu_memory_gib:
        budget = r.gpu_memory_utilization * config.cluster.gpu_memory_gib * r.tensor_parallel
        cache = max(0.0, budget - weights - logits)
    else:
        cache = wanted
    return {"weights": weights, "KV cache": cache, "logits": logits}


def reference_memory(config: RunConfig, shape: ShapeConfig, row_tokens: int) -> dict[str, float]:
    """Of one reference actor: weights b·N, one layer's activations of a micro-batch (nothing is kept for a
    backward pass), and what leaves it: logits of ``head_chunk_tokens`` tokens at a time with their log-softmax, 8·C·V
    bytes, and the head's float32 copy; for ``estimator=full`` instead the last hidden states, b·tokens·d."""
    b = BYTES[config.reference.compute_dtype]
    tokens = config.reference.micro_batch_rows * row_tokens
    size = shape.head_dim
    layer = 6 * shape.hidden_size + 2 * (shape.num_heads + shape.num_kv_heads) * size + 4 * shape.intermediate_size
    memory = {
        "weights": b * count_parameters(shape).total / GIB,
        "activations": b * tokens * layer / GIB,
    }
    if getattr(config.regularizer, "estimator", None) == "full":
        memory["hidden states"] = b * tokens * shape.hidden_size / GIB
    else:
        chunk = min(config.learner.head_chunk_tokens, tokens)
        wide = max(b, BYTES["float32"])
        copy = wide * shape.hidden_size if b < wide else 0
        memory["head"] = (2 * wide * chunk + copy) * shape.vocab_size / GIB
    return memory


def hidden_states_gib(config: RunConfig, shape: ShapeConfig) -> float:
    """Of a step's responses at their full length, from the reference for exact divergences: b·tokens·d, packed."""
    rows = config.prompts_per_step * int(getattr(config.algorithm, "group_size", 1))
    tokens = rows * config.rollout.max_new_tokens
    return BYTES[config.reference.compute_dtype] * tokens * shape.hidden_size / GIB
