"""Parts of a hand-written file that are generated, between two comments.

    # generated: services
    ...
    # end of generated: services

The lines between them are indented as the first comment is.
"""

import re
from collections.abc import Mapping
from textwrap import indent

from millrace.domain.errors import MillraceError

_BLOCK = re.compile(
    r"^(?P<margin>[ \t]*)# generated: (?P<name>\w+)\n(?P<inside>(?:.*\n)*?)[ \t]*# end of generated:"
    r" (?P=name)$",
    re.MULTILINE,
)
_OPENING = re.compile(r"^[ \t]*# generated: (\w+)$", re.MULTILINE)


class BlockError(MillraceError):
    """The marks in a file and the blocks of its template are not the same."""


def replace_blocks(text: str, blocks: Mapping[str, str]) -> str:
    """`text` with each marked part replaced by the block of its name; a name may occur several times.

    Raises BlockError for a mark without a block or without an end, and for a block without a mark.
    """
    opened, found = set(_OPENING.findall(text)), {match["name"] for match in _BLOCK.finditer(text)}
    if unknown := opened - blocks.keys():
        raise BlockError(f"'# generated: {min(unknown)}': the template has no such block")
    if endless := opened - found:
        raise BlockError(f"'# generated: {min(endless)}' has no line '# end of generated: {min(endless)}'")
    if homeless := blocks.keys() - found:
        raise BlockError(f"no line '# generated: {min(homeless)}' says where the template's block belongs")

    def filled(match: re.Match[str]) -> str:
        margin, name = match["margin"], match["name"]
        inside = indent(blocks[name].strip("\n") + "\n", margin) if blocks[name].strip() else ""
        return f"{margin}# generated: {name}\n{inside}{margin}# end of generated: {name}"

    return _BLOCK.sub(filled, text)
