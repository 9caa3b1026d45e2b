"""A tokenizer of bytes, for models with random weights that are to read real text.

== ==============  ==========================================================================
id token           meaning
== ==============  ==========================================================================
0  <pad>           padding
1  <eos>           end of a turn, and of a response
2  <|system|>      the system speaks next
3  <|user|>        the user speaks next
4  <|assistant|>   the model speaks next
5… the 256 bytes   in the order of their byte-level characters, as in GPT-2
== ==============  ==========================================================================

Every text has exactly one encoding, with as many tokens as it has bytes in UTF-8, and decodes back to itself. A
response need not be UTF-8: bytes that are not become U+FFFD.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIALS = ("<pad>", "<eos>", "<|system|>", "<|user|>", "<|assistant|>")
PAD, EOS = 0, 1
VOCAB_SIZE = len(SPECIALS) + 256
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def make_byte_tokenizer(chat: bool = True, context: int = 8192) -> PreTrainedTokenizerFast:
    """Makes an ordinary Hugging Face fast tokenizer. After ``save_pretrained`` into a directory whose config says
    ``model_type: qwen3`` (or llama), ``AutoTokenizer`` loads it back. It adds no token to what it encodes.

    ``chat=False`` leaves the chat template out, for prompts of plain text.
    """
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(BPE({token: i for i, token in enumerate([*SPECIALS, *alphabet])}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="<eos>",
        additional_special_tokens=list(SPECIALS[2:]),
        model_max_length=context,
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )
    if chat:
        tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
