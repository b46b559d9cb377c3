"""The parser of HTTP/1.1, for a server that speaks nothing else."""

from collections.abc import Sequence
from typing import Any

import httptools


def new_parser(protocol: Any) -> httptools.HttpRequestParser:
    """One that reports to `protocol`. What follows a request with `Connection: close` is no error: its answer
    goes out."""
    parser = httptools.HttpRequestParser(protocol)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def head_without_upgrade(
    method: bytes, target: bytes, version: str, headers: Sequence[tuple[bytes, bytes]]
) -> bytes:
    """The head of a request that offers no other protocol."""
    lines = [b"%s %s HTTP/%s" % (method, target, version.encode())]
    lines += [b"%s: %s" % header for header in headers if header[0] != b"upgrade"]
    return b"\r\n".join([*lines, b"", b""])
