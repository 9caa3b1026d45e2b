"""Reads numbers in words, and knows the words that make a phrase something other than a value with a unit."""

from __future__ import annotations

import re
from fractions import Fraction

_UNDER_TWENTY = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_SMALL = {word: k for k, word in enumerate(_UNDER_TWENTY.split())}
_SMALL |= {word: 10 * k for k, word in enumerate(_TENS.split(), 2)}
MULTIPLIERS = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
_PARTS = {"half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8,
          "ninth": 9, "tenth": 10}  # fmt: skip
_PARTS |= {name + "s": k for name, k in _PARTS.items()} | {"halves": 2}
NUMBER_WORDS = {word: str(k) for word, k in _SMALL.items()}

# Words that turn "5 ..." into another value, a guess or a denial, wherever in the phrase they stand.
_CHANGING = """
and or nor but not no never ever none neither either except excluding excluded without unless until if than then
else minus plus over divided multiplied by mod modulo base point squared cubed factorial root roots
inverse reciprocal log exponent power pi e i
wrong incorrect false maybe perhaps possibly probably approximately roughly almost nearly is are was were be isn't
aren't equals equal means yes this his its thus as us less fewer greater least most versus vs between
negative positive ones tens hundreds thousands score scores gross grand out remainder modulus
ago always sometimes otherwise instead rather still however actually wait hmm oops exclusive inclusive
"""
CHANGING = {*_CHANGING.split(), *_SMALL, *(_PARTS.keys() - {"quarters"}), *MULTIPLIERS}
_MAGNITUDE = re.compile(r"illions?$|illionths?$|^\w+(?:dredth|sandth|enth|tieth|elfth)s?$")


def changes_a_value(words: str) -> bool:
    """Returns True if a phrase after a number holds a word that makes another number, an alternative or a denial of it.

    >>> [changes_a_value(w) for w in ("apples", "sixths", "until seven", "duck eggs")]
    [False, True, True, False]
    """
    tokens = re.split(r"[\s/.,;:!?()-]+", words.lower())
    return any(token in CHANGING or _MAGNITUDE.search(token) for token in tokens)


_RETRACTING = re.compile(
    r"\b(?:extraneous|reject(?:ed)?|invalid|discard(?:ed)?|excluded|impossible|guess(?:ed)?|unsure|uncertain|estimated?"
    r"|rounded|circa|say|sic|cancell?(?:ed)?|outside|inadmissible|binary|octal|hex|hexadecimal|double|twice|triple|dozens"
    r"|modulo|repeating|recurring|periodic|approx|unknown|undefined|bound)\b",
    re.IGNORECASE,
)


def retracts(comment: str) -> bool:
    """Returns True if a comment behind a value takes it back, makes it a guess, or reads it in another way.

    >>> [retracts(c) for c in ("exact", "rejected", "binary")]
    [False, True, True]
    """
    return _RETRACTING.search(comment) is not None


# Short words that are answers; letters of other short words may be a product or points.
_ANSWER_WORDS = "yes no odd even all none both true false red max min neither left right up east west"
_ANSWERS = frozenset(_ANSWER_WORDS.split())
_LETTERS = re.compile(r"(?:\\text\{ ?)?([A-Za-z]{2,40})(?:\.|(?P<factorial>!))?\}?")
_WORD_LIKE = re.compile(r"(?=.*[aeiou]|.*y$)(?!.*[^aeiouy]{3})")


def same_word(one: str, other: str) -> bool | None:
    """Returns True if two answers are one word except for its case; None if they are no words, so that other rules
    decide.

    A word has four letters or more, or three if it begins with a capital and has a vowel (Bob, Red), or is a short
    answer (yes, no, odd, ...). Capitals in a row and letters in a row are no words: AB, ab and abc, ABC differ.

    >>> [same_word(*pair) for pair in (("Yes", "yes"), ("Bob", "bob"), ("AB", "ab"), ("ab", "ba"), ("no", "on"))]
    [True, True, False, None, False]
    """
    left, right = _LETTERS.fullmatch(one), _LETTERS.fullmatch(other)
    if left is None or right is None:
        return None
    if any(m["factorial"] and m[1].lower() not in _ANSWERS for m in (left, right)):  # "yes!" is no product
        return None
    if left[1].lower() != right[1].lower():
        return False if {left[1].lower(), right[1].lower()} & _ANSWERS else None
    return left[1] == right[1] or (_is_word(left[1], right[1]) or _is_word(right[1], left[1]))


def _is_word(word: str, other: str) -> bool:
    folded = word.lower()
    if folded in _ANSWERS:
        return True
    if len(word) > 4 or (len(word) == 4 and not (word.isupper() or other.isupper())):
        return True
    if len(word) == 4:
        return _WORD_LIKE.match(folded) is not None
    return len(word) == 3 and word.istitle() and _WORD_LIKE.match(folded) is not None


def number_in_words(text: str) -> Fraction | None:
    """Returns the value of a number in words, None for anything else.

    >>> [str(number_in_words(t)) for t in ("twenty-five", "one hundred and six", "two thirds", "a dozen", "ten or six")]
    ['25', '106', '2/3', '12', 'None']
    """
    tokens = [t for t in re.split(r"[\s-]+", text.lower().strip(" .")) if t]
    if not tokens or len(tokens) > 12:
        return None
    if len(tokens) == 2 and tokens[1] in _PARTS and (tokens[0] in _SMALL or tokens[0] in ("a", "an")):
        above = _SMALL.get(tokens[0], 1)
        return Fraction(above, _PARTS[tokens[1]]) if above else None
    if tokens[0] in ("a", "an") and len(tokens) > 1 and tokens[1] in MULTIPLIERS:
        tokens[0] = "one"
    if tokens[0] not in _SMALL:
        return None
    total = group = 0
    before = "start"
    for k, token in enumerate(tokens):
        if token in _SMALL:
            value = _SMALL[token]
            fits = before in ("start", "multiplier", "and") or (before == "tens" and 0 < value < 10)
            if not fits:
                return None
            group += value
            before = "tens" if value >= 20 else "ones"
        elif token in MULTIPLIERS and before in ("tens", "ones", "multiplier") and group:
            if token == "hundred":
                group *= 100
            else:
                total, group = total + group * MULTIPLIERS[token], 0
            before = "multiplier"
        elif token == "and" and before == "multiplier" and k + 1 < len(tokens):
            before = "and"
        else:
            return None
    return Fraction(total + group)
