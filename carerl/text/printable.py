"""Makes text from elsewhere safe for a terminal.

A model's response, a data row, a file's name or a grader's message may contain characters that a terminal obeys: they
move the cursor, set the clipboard, or show a line in another order. All printed text that was not written by this
project goes through :func:`printable`.
"""

from __future__ import annotations

import re

_KEPT = "\n\t"
_UNKNOWN = 0xFFFD  # the replacement character
# C0 as their pictures, one for one
_CONTROLS: dict[int, int] = {code: 0x2400 + code for code in range(0x20) if chr(code) not in _KEPT}
_CONTROLS |= {0x7F: 0x2421}
# C1: the same commands in one character (0x9B begins a sequence, 0x9D and 0x90 are OSC and DCS); no pictures but ESC's
_CONTROLS |= {code: 0x241B if code == 0x9B else _UNKNOWN for code in range(0x80, 0xA0)}
# characters that reorder text (marks, embeddings, overrides, isolates), or break a line without a line feed
_REORDER = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_CONTROLS |= dict.fromkeys((*_REORDER, 0x2028, 0x2029), _UNKNOWN)
# halves of a character, which JSON can hold and no stream can write
_CONTROLS |= dict.fromkeys(range(0xD800, 0xE000), _UNKNOWN)
_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")


def printable(text: object) -> str:
    """Returns the text with every character that steers a terminal replaced by one that does not.

    Line feeds and tabs stay.

    >>> printable("a\\x1b[2Jb\\x9d8;;x\\x07 \\u202egnp.exe")
    'a␛[2Jb�8;;x␇ �gnp.exe'
    """
    return str(text).translate(_CONTROLS)


def printable_log(text: str) -> str:
    """Returns a program's output made printable: colours are dropped, and a carriage return ends a line.

    >>> printable_log("\\x1b[36m(actor)\\x1b[0m 10 %\\r20 %\\r\\ndone\\n")
    '(actor) 10 %\\n20 %\\ndone\\n'
    """
    lines = _COLOUR.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return printable(lines)
