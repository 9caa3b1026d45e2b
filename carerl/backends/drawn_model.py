"""Makes a small model of drawn weights under another model's tokenizer, for rehearsals.

Its ``config.json`` is the real model's with a smaller shape. Tokenizer, chat template and ``generation_config.json``
are copies of the real files. No weights of the real model are read.
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import torch

from carerl.backends.models import DTYPES, end_ids, load_tokenizer, make_model, save_model
from carerl.config.schema import ShapeConfig
from carerl.tasks.end_of_turn import end_of_turn

COPIED = ("*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken", "*.py")  # beside the weights of a model
NOT_COPIED = ("config.json", "*.index.json")
BIAS_SPREAD = 0.02
NORMS = (0.5, 1.0)
# The logit of an end token is END_SHARE · log V times a standard normal number. The log-sum of the other tokens' logits
# is about log V. At a tenth of the positions the end token's logit is the larger, and the response ends.
END_SHARE = 0.75


def make_drawn_model(
    directory: Path, source: Path, shape: ShapeConfig, dtype: str, seed: int, trust_remote_code: bool = False
) -> None:
    """Writes a model of ``shape`` into ``directory``: weights drawn from ``seed``, everything else from ``source``.

    If ``source`` has no ``config.json``, the shape alone decides the architecture. Some responses end by an end token,
    like those of a trained model. Raises OSError or ValueError if ``source`` has no tokenizer.
    """
    _copy(source, directory)
    tokenizer = load_tokenizer(str(source), trust_remote_code)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if (source / "config.json").is_file():
            model = _model_like(source, directory, shape, trust_remote_code)
        else:
            model = make_model(shape, (tokenizer.eos_token_id,))
        ends = {tokenizer.eos_token_id, end_of_turn(tokenizer), *_ends(source, trust_remote_code)} - {None}
        _draw(model, sorted(ends))
    model.config.dtype = dtype
    weights = {name: parameter.detach().to(DTYPES[dtype]) for name, parameter in model.named_parameters()}
    generation = directory / "generation_config.json"
    stated = generation.read_bytes() if generation.is_file() else None
    save_model(directory, model.config, weights, None)
    if stated is not None:
        generation.write_bytes(stated)


def _copy(source: Path, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for pattern in COPIED:
        for path in source.glob(pattern):
            if not any(path.match(left_out) for left_out in NOT_COPIED):
                shutil.copyfile(path, directory / path.name)


def _ends(source: Path, trust_remote_code: bool) -> tuple[int, ...]:
    stated = any((source / name).is_file() for name in ("generation_config.json", "config.json"))
    return end_ids(str(source), trust_remote_code) if stated else ()


def _model_like(source: Path, directory: Path, shape: ShapeConfig, trust_remote_code: bool) -> Any:
    """Makes a model from the source's own ``config.json`` with the sizes of ``shape`` in it."""
    from transformers import AutoConfig, AutoModelForCausalLM

    stated = json.loads((source / "config.json").read_text(encoding="utf-8"))
    stated |= {
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "num_key_value_heads": shape.num_kv_heads,
    }
    if "head_dim" in stated or shape.num_heads * shape.head_dim != shape.hidden_size:
        stated["head_dim"] = shape.head_dim
    if isinstance(stated.get("layer_types"), list):
        stated["layer_types"] = stated["layer_types"][: shape.num_layers]
    if isinstance(stated.get("max_window_layers"), int):
        stated["max_window_layers"] = min(stated["max_window_layers"], shape.num_layers)
    (directory / "config.json").write_text(json.dumps(stated, indent=2) + "\n", encoding="utf-8")
    config = AutoConfig.from_pretrained(directory, trust_remote_code=trust_remote_code)
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=trust_remote_code)
    model.config.architectures = [type(model).__name__]  # vLLM chooses its implementation by it
    return model


@torch.no_grad()
def _draw(model: Any, ends: list[int]) -> None:
    """Draws all weights.

    Matrices keep the spread of their input, so that updates at the rehearsal's learning rate are small beside them.
    Biases and norms, which usually begin at 0 and 1, are drawn too: otherwise nobody would notice an engine that leaves
    one out. Norms lie below 1, where bfloat16 has finer steps.
    """
    head_VD = model.get_output_embeddings().weight
    tables = (head_VD, model.get_input_embeddings().weight)
    for name, parameter in model.named_parameters():
        if name.endswith(".bias"):
            parameter.normal_(0.0, BIAS_SPREAD)
        elif parameter.dim() == 1:
            parameter.uniform_(*NORMS)
        elif not any(parameter is table for table in tables):
            parameter.normal_(0.0, parameter.shape[-1] ** -0.5)
    for token in ends:
        direction_D = torch.randn(head_VD.shape[1])
        head_VD[token] = END_SHARE * math.log(len(head_VD)) * direction_D / direction_D.norm()
