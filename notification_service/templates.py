"""What customers read: a subject and a few sentences for each kind, as plain text and as HTML.

Small enough for `string.Template`; a shop that wants more puts its template engine behind `render`.
"""

import html
from dataclasses import dataclass
from string import Template
from typing import Final

from schemas.events.notifications import NotificationKind, NotificationRequested
from schemas.money import Money

_SUBJECTS: Final[dict[NotificationKind, str]] = {
    "order_created": "We have your order $order",
    "order_confirmed": "Your order $order is confirmed",
    "order_rejected": "We can't fulfil your order $order",
    "order_cancelled": "Your order $order is cancelled",
    "order_shipped": "Your order $order is on its way",
}

_SENTENCES: Final[dict[NotificationKind, str]] = {
    "order_created": "thank you for your order. We are checking our stock and will write to you again.",
    "order_confirmed": "everything that you ordered is reserved for you. We'll let you know when it ships.",
    "order_rejected": "we are sorry: we can't fulfil your order. Nothing is charged.",
    "order_cancelled": "your order is cancelled. Nothing is charged.",
    "order_shipped": "your order left the house today.",
}

_TEXT: Final = Template("Hello $name,\n\n$sentence\n\n$facts\n\nMillrace\n")

_HTML: Final = Template(
    '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>$subject</title></head>\n'
    '<body style="font-family: sans-serif; line-height: 1.5">\n'
    "<p>Hello $name,</p>\n<p>$sentence</p>\n<table>\n$facts\n</table>\n<p>Millrace</p>\n</body>\n</html>\n"
)

_ROW: Final = Template('<tr><th align="left">$label</th><td>$value</td></tr>')

# ISO 4217 currencies that are not divided into hundredths.
_DECIMALS: Final = dict.fromkeys(
    (
        "BIF",
        "CLP",
        "DJF",
        "GNF",
        "ISK",
        "JPY",
        "KMF",
        "KRW",
        "PYG",
        "RWF",
        "UGX",
        "VND",
        "VUV",
        "XAF",
        "XOF",
        "XPF",
    ),
    0,
) | dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3)


@dataclass(frozen=True, slots=True)
class Rendered:
    """A message's words."""

    subject: str
    text: str
    html: str


def render(request: NotificationRequested, name: str) -> Rendered:
    """The message for a customer called `name`. In the HTML everything that people typed is escaped."""
    subject = Template(_SUBJECTS[request.kind]).substitute(order=_short(request))
    sentence = _SENTENCES[request.kind]
    facts = _facts(request)
    return Rendered(
        subject=subject,
        text=_TEXT.substitute(
            name=name, sentence=sentence, facts="\n".join(f"{label}: {value}" for label, value in facts)
        ),
        html=_HTML.substitute(
            subject=html.escape(subject),
            name=html.escape(name),
            sentence=html.escape(sentence),
            facts="\n".join(
                _ROW.substitute(label=html.escape(label), value=html.escape(value)) for label, value in facts
            ),
        ),
    )


def _facts(request: NotificationRequested) -> list[tuple[str, str]]:
    facts = [("Order", str(request.order_id))]
    if request.total is not None:
        facts.append(("Total", in_words(request.total)))
    if request.detail is not None:
        facts.append(("Details", request.detail))
    return facts


def in_words(money: Money) -> str:
    """12.99 EUR for 1299 minor units; exact, without floating point."""
    decimals = _DECIMALS.get(money.currency, 2)
    whole, rest = divmod(money.amount, 10**decimals)
    return f"{whole}.{rest:0{decimals}d} {money.currency}" if decimals else f"{whole} {money.currency}"


def _short(request: NotificationRequested) -> str:
    # The last group: the beginning of a time-ordered id is the same for all orders of a minute.
    return str(request.order_id)[-12:]
