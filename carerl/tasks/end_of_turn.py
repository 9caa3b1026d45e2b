"""Finds the token with which a chat template ends an assistant's turn.

The tokenizer of a base model ends texts with one token, and its chat template may end turns with another: Qwen2.5 has
``<|endoftext|>`` and ``<|im_end|>``. Under the template a response ends with the turn. The token is found by rendering
a turn, not from a list of names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .chat_templates import TemplateEndedError, TemplateError, render

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SAID = "It is seven."
_CHAT = [{"role": "user", "content": "How many?"}, {"role": "assistant", "content": _SAID}]


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Returns the added token that the chat template puts directly behind what an assistant says, ignoring blanks.

    Returns None for a tokenizer without a template, for a template that puts no such token there, and for one that does
    not render a question with its answer. Raises TemplateEndedError for a template that does not finish.
    """
    if not getattr(tokenizer, "chat_template", None):
        return None
    try:
        (text,) = render(tokenizer, [_CHAT], generation=False)
    except TemplateEndedError:
        raise
    except TemplateError:
        return None
    _, said, behind = text.rpartition(_SAID)
    added: dict[int, Any] = tokenizer.added_tokens_decoder
    ends = {str(token): number for number, token in added.items() if str(token).strip()}
    found = [token for token in ends if said and behind.lstrip().startswith(token)]
    return ends[max(found, key=len)] if found else None
