"""The names in certificates: `order.millrace` is the order service, wherever it runs."""

import re
from collections.abc import Iterable
from typing import Final

_DOMAIN: Final = "millrace"
_NAME: Final = re.compile(rf"([a-z][a-z0-9]*)\.{_DOMAIN}")


def dns_name(service: str) -> str:
    """The name in the certificate of a service: order -> order.millrace"""
    return f"{service}.{_DOMAIN}"


def services_of(names: Iterable[str]) -> list[str]:
    """The services that the names of a certificate stand for; other names mean nothing here."""
    return [found[1] for name in names if (found := _NAME.fullmatch(name))]
