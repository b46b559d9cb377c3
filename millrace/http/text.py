"""Which characters text for people may hold: those that they can see.

Invisible characters make two names look the same, or a name look like nothing; bidirectional controls turn
around what stands behind them; line separators make two lines of one. Control characters have no place in a
line either.
"""

import re
import unicodedata
from typing import Final

# Line and paragraph separators, controls, formats, halves of characters, private ones.
_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
# Letters, marks and a symbol that show nothing (Unicode's Default_Ignorable_Code_Point, and the blank of
# Braille), and the code points that will never be characters.
_BLANK: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\ufdd0-\ufdef"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_JOINERS: Final = "\u200c\u200d"  # zero width non-joiner, zero width joiner
_EMOJI_STYLE: Final = "\ufe0f"
_VIRAMA: Final = 9  # the combining class of the sign that joins letters in the scripts of India


def first_invisible(text: str) -> str | None:
    """The first character that people can't see, as in "U+202E RIGHT-TO-LEFT OVERRIDE"; None without one."""
    if text.isascii() and text.isprintable():
        return None
    for index, character in enumerate(text):
        if _hidden(character) and not _shapes_its_neighbours(text, index):
            return f"U+{ord(character):04X} {unicodedata.name(character, '')}".rstrip()
    return None


def _hidden(character: str) -> bool:
    return (
        unicodedata.category(character) in _CATEGORIES
        or _BLANK.match(character) is not None
        or ord(character) & 0xFFFE == 0xFFFE
    )


def _shapes_its_neighbours(text: str, index: int) -> bool:
    """Whether the character is there to be seen: in Arabic and Indic words (RFC 5892, A.1 and A.2), in
    ideographs, and in emojis."""
    character, before, after = text[index], text[index - 1 : index], text[index + 1 : index + 2]
    if not before:
        return False
    if character == _EMOJI_STYLE:
        return unicodedata.category(before) == "So"
    if (
        "\U000e0100" <= character <= "\U000e01ef"
    ):  # the variants of ideographs that Japanese names are written with
        return unicodedata.name(before, "").startswith("CJK")
    if character not in _JOINERS or not after:
        return False
    if unicodedata.category(after) in ("So", "Sk"):
        return character == "\u200d" and (
            before == _EMOJI_STYLE or unicodedata.category(before) in ("So", "Sk")
        )
    return unicodedata.category(after)[0] in "LM" and (
        unicodedata.combining(before) == _VIRAMA
        or (unicodedata.bidirectional(before) in ("AL", "NSM") and unicodedata.bidirectional(after) == "AL")
    )
