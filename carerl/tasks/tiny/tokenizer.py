"""The tiny world's vocabulary: 64 tokens, each a word of the text form.

The text form of a row is its tokens joined by blanks, e.g. ``Q 3 +4 *2 = C 3 7 4 A 4 <eos>``. Operators
are fused with their operand ("+4" is one token): operators spelled by character are not learned in the
time a laptop run has (accuracy .17 after 350 s, measured).

== =====  ===================================================================================
id token  meaning
== =====  ===================================================================================
0  <pad>  padding
1  <eos>  end of a response
2  Q      a question of the RL task
3  F      a question about a name
4  =      end of a prompt
5  A      the next token is the answer
6  ?      "I do not know"
7  D      a sloppy chain follows
8  C      a careful chain follows
9  W      a textbook question
10 0 … 9  digits (10-19)
20 a … z  letters of names (20-45)
46 +1 …   +1 … +9 (46-54), *2 … *9 (55-62)
63 <unk>  never in the data; stands for a word that is not in the vocabulary
== =====  ===================================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, EOS, QUESTION, FACT, EQUALS, ANSWER, UNKNOWN, SLOPPY, CAREFUL, TEXTBOOK = range(10)
DIGIT = 10  # id of the digit 0
LETTER = 20  # id of the letter a
OPERATOR = 46  # id of +1

SPECIALS = ("<pad>", "<eos>", "Q", "F", "=", "A", "?", "D", "C", "W")
DIGITS = tuple("0123456789")
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
OPERATORS = tuple(f"+{v}" for v in range(1, 10)) + tuple(f"*{v}" for v in range(2, 10))
TOKENS = (*SPECIALS, *DIGITS, *LETTERS, *OPERATORS, "<unk>")
VOCAB_SIZE = len(TOKENS)
IDS = {token: i for i, token in enumerate(TOKENS)}

CONTEXT = 64  # tokens; the longest row of the corpus has 16


def encode(text: str) -> tuple[int, ...]:
    """Converts a text form to ids. Raises KeyError for a word that is not in the vocabulary.

    >>> encode("Q 3 +4 =")
    (2, 13, 49, 4)
    """
    return tuple(IDS[word] for word in text.split())


def decode(ids: tuple[int, ...] | list[int]) -> str:
    """Converts ids to their text form, the inverse of :func:`encode`."""
    return " ".join(TOKENS[i] for i in ids)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Makes an ordinary Hugging Face fast tokenizer with the ids of :data:`TOKENS`.

    After ``save_pretrained`` into a directory whose config says ``model_type: qwen3`` (or llama, mistral),
    ``AutoTokenizer`` loads it back. It adds neither a beginning nor an end token to what it encodes.
    """
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(WordLevel(dict(IDS), unk_token="<unk>"))
    backend.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        model_max_length=CONTEXT,
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )
