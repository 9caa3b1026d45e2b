"""Encodes prompts to token ids, and measures how long they are.

A process encodes each question once, and many in one call: seven thousand take a second or two with a fast tokenizer.
Neither another epoch nor another run of a sweep encodes them again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carerl.types import Example

from .chat_templates import TemplateError, render

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

AT_A_TIME = 2000  # prompts that are encoded in one call
Prompt = tuple[str, str]  # what the system says ('' for nothing), and what the user says


class PromptEncoder:
    """Encodes prompts with one tokenizer, and remembers their ids. ``thinks`` false: chat templates with a switch for
    thinking first (``enable_thinking``, as Qwen3's) are told not to."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, thinks: bool = True) -> None:
        self._tokenizer, self._thinks = tokenizer, thinks
        self._known: dict[Prompt, tuple[int, ...]] = {}

    def __call__(self, prompts: Sequence[Prompt]) -> list[tuple[int, ...]]:
        """Returns the ids of each prompt. Raises ValueError if the chat template refuses a prompt or loses part of
        it."""
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._known]
        for start in range(0, len(new), AT_A_TIME):
            part = new[start : start + AT_A_TIME]
            encoded = self._encode(part)
            if (
                empty := next((text for (_, text), ids in zip(part, encoded, strict=True) if not ids), None)
            ) is not None:
                raise ValueError(f"the model's tokenizer makes an empty prompt of {empty[:80]!r}")
            self._known.update(zip(part, map(tuple, encoded), strict=True))
        return [self._known[prompt] for prompt in prompts]

    def _encode(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        tokenizer: Any = self._tokenizer
        if not getattr(tokenizer, "chat_template", None):
            texts = [f"{system}\n\n{text}\n" if system else f"{text}\n" for system, text in prompts]
            plain: list[list[int]] = tokenizer(texts)["input_ids"]
            return plain
        chats = [
            [*([{"role": "system", "content": system}] if system else []), {"role": "user", "content": text}]
            for system, text in prompts
        ]
        try:
            texts = render(tokenizer, chats, thinks=self._thinks)
        except TemplateError as error:
            hint = "; it may know no system prompt: leave task.system_prompt out" if any(s for s, _ in prompts) else ""
            raise TemplateError(f"the model's chat template refuses a prompt: {error}{hint}") from error
        _refuse_loss(prompts[0], texts[0])
        templated: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
        return templated


def _refuse_loss(prompt: Prompt, text: str) -> None:
    """Raises TemplateError for a chat template that leaves out part of the prompt. Blanks are ignored, as templates
    trim."""
    rendered = "".join(text.split())
    if not rendered:
        raise TemplateError("the model's chat template makes an empty prompt of a question: give a model with its own")
    system, asked = prompt
    for said, what, remedy in (
        (asked, "the question", "give a model with its own template"),
        (system, "the system prompt", "leave task.system_prompt out"),
    ):
        if "".join(said.split()) not in rendered:
            raise TemplateError(f"the model's chat template leaves out {what}: {text[:200]!r}; {remedy}")


_LAST: dict[str, PromptEncoder] = {}  # of the tokenizer that was used last, by its fingerprint and ``thinks``


def prompt_encoder(tokenizer: PreTrainedTokenizerBase, thinks: bool = True) -> PromptEncoder:
    """Returns this process's encoder for a tokenizer. Another object of the same contents gets the same encoder."""
    found = f"{fingerprint(tokenizer)} {thinks}"
    if found not in _LAST:
        _LAST.clear()
        _LAST[found] = PromptEncoder(tokenizer, thinks)
    return _LAST[found]


def fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Returns a text that identifies a tokenizer: by its vocabulary, rules and chat template, or, for a slow tokenizer,
    by its object (which its encoder keeps alive)."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    contents = backend.to_str() if backend is not None else f"object {id(tokenizer)}"
    template = getattr(tokenizer, "chat_template", None)
    return hashlib.sha256(f"{contents}\n{template!r}\n{tokenizer.special_tokens_map!r}".encode()).hexdigest()


@dataclass(frozen=True)
class PromptLengths:
    """Holds how many tokens the prompts of some questions have. ``room``: the most that a prompt may have.
    ``too_long``: (question, tokens) of prompts that have more, the longest first."""

    room: int
    questions: int
    shortest: tuple[str, int]
    longest: tuple[str, int]
    too_long: tuple[tuple[str, int], ...] = ()

    @property
    def none_fits(self) -> bool:
        return len(self.too_long) == self.questions

    def record(self) -> dict[str, Any]:
        """Returns plain values for a file."""
        return {
            "questions": self.questions,
            "max_prompt_tokens": self.room,
            "too_long": len(self.too_long),
            "longest": {"id": self.longest[0], "tokens": self.longest[1]},
        }


def prompt_lengths(examples: Iterable[Example], room: int) -> PromptLengths:
    """Measures prompts against ``room``, in tokens. Raises ValueError if there are no prompts."""
    found = [(example.id, len(example.prompt_ids)) for example in examples]
    if not found:
        raise ValueError("there is no prompt to measure")
    ordered = sorted(found, key=lambda pair: (-pair[1], pair[0]))
    too_long = tuple(pair for pair in ordered if pair[1] > room)
    return PromptLengths(room, len(found), ordered[-1], ordered[0], too_long)
