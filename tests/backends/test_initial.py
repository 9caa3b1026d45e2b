"""The tiny model's initialisation: the spread of every kind of weight, and what decides the draw."""

from __future__ import annotations

import math

import pytest
import torch

from carerl.backends.initial import init_tiny


def make_model() -> torch.nn.Module:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=64,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=32,
            attention_bias=False,
            tie_word_embeddings=True,
        )
    )


def test_spread_of_every_kind_of_weight() -> None:
    model = make_model()
    init_tiny(model, torch.Generator().manual_seed(0))
    residual = math.sqrt(6)  # sqrt(2 L)
    for name, parameter in model.named_parameters():
        weight = parameter.detach()
        if "norm" in name:
            assert (weight == 1).all()
            continue
        expected = {
            "embed_tokens": 0.08,
            "o_proj": 1 / math.sqrt(64) / residual,
            "down_proj": 1 / math.sqrt(128) / residual,
        }.get(name.split(".")[-2], 1 / math.sqrt(64))
        # the standard error of a standard deviation is expected / sqrt(2 n)
        assert abs(float(weight.std()) - expected) < 5 * expected / math.sqrt(2 * weight.numel())
        assert abs(float(weight.mean())) < 5 * expected / math.sqrt(weight.numel())


def test_the_tied_head_stays_tied_and_the_generator_decides() -> None:
    one, same, other = make_model(), make_model(), make_model()
    init_tiny(one, torch.Generator().manual_seed(1))
    init_tiny(same, torch.Generator().manual_seed(1))
    init_tiny(other, torch.Generator().manual_seed(2))
    assert one.lm_head.weight is one.model.embed_tokens.weight  # type: ignore[union-attr]
    weights = [torch.cat([p.flatten() for p in m.parameters()]) for m in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_fresh_model_is_unsure() -> None:
    model = make_model()
    init_tiny(model, torch.Generator().manual_seed(3))
    with torch.no_grad():
        logits = model(input_ids=torch.randint(0, 64, (8, 12))).logits
    entropy = torch.distributions.Categorical(logits=logits).entropy().mean()
    assert float(entropy) == pytest.approx(math.log(64), abs=0.4)
