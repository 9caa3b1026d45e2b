"""One optimizer step's loss and gradients by TRL's trainers and by carerl, from nothing shared but the weights, the
tokens and the rewards.

TRL's side is its trainers' own code from the tokens on: `_generate_and_score_completions` (advantages, the old
policy's and the reference's log-probs) and `compute_loss`. What is replaced is the sampler, by one that returns
given tokens. carerl's side is what its learner calls: `make_batch`, `token_statistics`, `Objective`.
"""

from __future__ import annotations

import copy
import string
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from carerl.algorithms import Algorithm
from carerl.backends.initial import init_tiny
from carerl.loss.batching import make_batch, normalisers
from carerl.loss.head import FactoredLogits, TokenStatistics, token_statistics
from carerl.loss.objective import Objective
from carerl.loss.streams import flatten
from carerl.types import Group, Outcome, TokenBatch
from tests.loss.batches import LENGTHS, V, groups, objective, positions, streams_of

WORDS = string.ascii_lowercase[:V]
PAD, EOS = 0, 1
PERTURBATION = 0.2  # of the model as it is initialised: distributions far from uniform
DRIFT = 0.05  # from the policy to the old one: ratios of about .5 to 2


@dataclass
class Step:
    """``token_gradient_BT``: of the loss with respect to each token's log-prob; ``gradient``: to the parameters."""

    loss: float
    token_gradient_BT: Tensor
    gradient: Tensor
    clip_fraction: float = 0.0


def tiny_model() -> Any:
    """A Qwen3 with random weights, the same ones in every call."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=V,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        attn_implementation="sdpa",  # eager makes NaN of float64 left padding
    )
    model = Qwen3ForCausalLM(config).double()
    init_tiny(model, torch.Generator().manual_seed(0))
    perturb(model, PERTURBATION, seed=0)
    return model.train()


@torch.no_grad()
def perturb(model: Any, std: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter += std * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


def graded_groups(lengths: tuple[tuple[int, ...], ...] = LENGTHS) -> list[Group]:
    """Groups of uneven responses with rewards on a continuous scale; right is what has more than .5. Both kinds are in
    every group."""
    made = groups(lengths, seed=3)
    generator = torch.Generator().manual_seed(4)
    for group in made:
        rewards = torch.rand(len(group.samples), generator=generator)
        rewards[0], rewards[1] = 0.3 * rewards[0], 0.6 + 0.3 * rewards[1]
        set_rewards(group, rewards.tolist())
    return made


def set_rewards(group: Group, rewards: list[float]) -> None:
    for sample, reward in zip(group.samples, rewards, strict=True):
        sample.reward, sample.outcome = reward, Outcome.CORRECT if reward > 0.5 else Outcome.WRONG


class Bench:
    """The weights of old policy, policy and reference, and graded groups: what both sides are given.

    ``off_policy`` False: the old policy is the policy.
    """

    def __init__(
        self, folder: Path, made: list[Group] | None = None, off_policy: bool = True, temperature: float = 1.0
    ):
        self.groups = made or graded_groups()
        self.off_policy = off_policy
        self.temperature = temperature
        self.model = tiny_model()
        self.new = copy.deepcopy(self.model.state_dict())
        perturb(self.model, 2 * DRIFT, seed=2)
        self.model.save_pretrained(folder)  # where TRL looks for the reference
        self.model.config._name_or_path = str(folder)
        self.reference = copy.deepcopy(self.model.state_dict())
        self.model.load_state_dict(self.new)
        if off_policy:
            perturb(self.model, DRIFT, seed=1)
        self.old = copy.deepcopy(self.model.state_dict())

    @property
    def group_size(self) -> int:
        return len(self.groups[0].samples)

    # ---- carerl ----------------------------------------------------------------------------------

    def statistics(self, batch: TokenBatch) -> TokenStatistics:
        rows, columns = positions(batch)
        lengths_B1 = (batch.prompt_lengths_B + batch.response_lengths_B)[:, None]
        attention_BS = (torch.arange(batch.input_ids_BS.shape[1]) < lengths_B1).long()
        hidden_BSD = self.model.model(input_ids=batch.input_ids_BS, attention_mask=attention_BS).last_hidden_state
        ids_N = batch.input_ids_BS[rows, columns]
        logits = FactoredLogits(hidden_BSD[rows, columns - 1], self.model.lm_head.weight)
        return token_statistics(logits, ids_N, temperature=batch.temperature, chunk_tokens=1000)

    def batch(self, policy: Algorithm) -> TokenBatch:
        """With the log-probs of the old policy, if it is another, and of the reference."""
        batch = make_batch(self.groups, policy, self.temperature)
        with torch.no_grad():
            self.model.load_state_dict(self.reference)
            streams = {"ref_logprobs_BT": streams_of(batch, self.statistics(batch).logprobs_N)}
            if self.off_policy:
                self.model.load_state_dict(self.old)
                streams["old_logprobs_BT"] = streams_of(batch, self.statistics(batch).logprobs_N)
        self.model.load_state_dict(self.new)
        return batch.with_streams(**streams)

    def carerl(self, policy: Algorithm, target: Objective | None = None, rows: list[int] | None = None) -> Step:
        """``target``: by default the policy term alone. ``rows``: a minibatch, by default the whole batch."""
        batch = self.batch(policy)
        batch = batch if rows is None else batch.select(rows)
        stats = self.statistics(batch)
        stats.logprobs_N.retain_grad()
        out = (target or objective(policy=policy))(stats, flatten(batch), normalisers(batch, policy))
        loss, gradient = self._backward(out.loss)
        assert stats.logprobs_N.grad is not None
        clipped, tokens = out.sums["train/clip_fraction"]
        return Step(loss, streams_of(batch, stats.logprobs_N.grad), gradient, clipped / tokens)

    def _backward(self, loss: Tensor) -> tuple[float, Tensor]:
        self.model.zero_grad()
        loss.backward()
        return float(loss.detach()), torch.cat([p.grad.flatten() for p in self.model.parameters()])

    # ---- TRL -------------------------------------------------------------------------------------

    def trainer(self, trl: ModuleType, folder: Path, kind: str = "GRPO", **settings: Any) -> Any:
        """A GRPOTrainer or RLOOTrainer on the model, in float64, with nothing logged."""
        from datasets import Dataset

        samples = [sample for group in self.groups for sample in group.samples]
        responses = [list(sample.response_ids) for sample in samples]
        rewards = [sample.reward for sample in samples]
        arguments = {
            "output_dir": str(folder / "trainer"),
            "per_device_train_batch_size": len(samples),
            "num_generations": self.group_size,
            "max_completion_length": max(map(len, responses)),
            "temperature": self.temperature,
            "use_cpu": True,
            "bf16": False,
            "gradient_checkpointing": False,
            "report_to": [],
            "beta": 0.0,
            # two passes over a batch: then the old policy's log-probs are computed and kept
            "num_iterations": 2 if self.off_policy else 1,
            **settings,
        }
        config, trainer = getattr(trl, f"{kind}Config"), getattr(trl, f"{kind}Trainer")
        made = trainer(
            model=self.model,
            reward_funcs=lambda completion_ids, **_: rewards[: len(completion_ids)],
            args=config(**arguments),
            train_dataset=Dataset.from_list([{"prompt": text} for text in self.prompts]),
            processing_class=tokenizer(),
        )
        made._generate_single_turn = lambda *_: responses if kind == "RLOO" else (responses, None)
        made.current_gradient_accumulation_steps = made.args.gradient_accumulation_steps  # the training loop sets it
        return made

    @property
    def prompts(self) -> list[str]:
        texts = [" ".join(WORDS[token] for token in group.example.prompt_ids) for group in self.groups]
        return [text for text, group in zip(texts, self.groups, strict=True) for _ in group.samples]

    def scored(self, trainer: Any) -> dict[str, Any]:
        """TRL's own tensors of the whole batch, under the old policy's weights."""
        self.model.load_state_dict(self.old)
        inputs = trainer._generate_and_score_completions([{"prompt": text} for text in self.prompts])
        self.model.load_state_dict(self.new)
        return inputs

    def trl(self, trainer: Any, inputs: dict[str, Any] | None = None) -> Step:
        """``inputs``: by default the whole batch."""
        inputs = inputs or self.scored(trainer)
        seen: list[Tensor] = []
        score = trainer._get_per_token_logps_and_entropies

        def watched(*args: Any, **kwargs: Any) -> Any:
            result = score(*args, **kwargs)
            result[0].retain_grad()
            seen.append(result[0])
            return result

        trainer._get_per_token_logps_and_entropies = watched
        try:
            loss, gradient = self._backward(trainer.compute_loss(trainer.model, inputs))
        finally:
            trainer._get_per_token_logps_and_entropies = score
        (logprobs_BT,) = seen
        assert logprobs_BT.grad is not None
        return Step(loss, logprobs_BT.grad, gradient)


def tokenizer() -> Any:
    """A letter a token; padding and end are tokens that the responses hold, too."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({word: token for token, word in enumerate(WORDS)}, unk_token=WORDS[PAD]))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token=WORDS[PAD], eos_token=WORDS[EOS])
