"""The mailbox's two pages. Whatever comes from an e-mail is escaped, its HTML shown in a frame without
rights."""

from collections.abc import Iterable
from html import escape

from infra.mailbox.letter import Address
from infra.mailbox.store import Summary

PAGE_SIZE = 50

STYLE = """
:root { color-scheme: light dark; --line: #8884; --dim: #777; --accent: #0a6cbd; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.3rem; }
a { color: var(--accent); text-decoration: none; } a:hover { text-decoration: underline; }
table { border-collapse: collapse; width: 100%; } th { text-align: left; font-weight: 600; }
td, th { padding: .45rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
.dim { color: var(--dim); } .when { white-space: nowrap; }
pre { white-space: pre-wrap; border: 1px solid var(--line); border-radius: 6px; padding: 1rem; }
iframe { width: 100%; height: 28rem; border: 1px solid var(--line); border-radius: 6px; background: #fff; }
"""


def message_list(summaries: list[Summary], total: int, start: int) -> str:
    """The list, newest first; loads itself again every few seconds."""
    rows = "".join(
        f"<tr><td class='when dim'>{summary.received:%Y-%m-%d %H:%M:%S}</td><td>{people(summary.to)}</td>"
        f"<td><a href='/view/{escape(summary.id)}'>{escape(summary.subject or '(no subject)')}</a>"
        f"<br><span class='dim'>{escape(summary.snippet)}</span></td></tr>"
        for summary in summaries
    )
    empty = "<p>No messages yet. What the platform sends appears here.</p>"
    table = f"<table><tr><th>Received (UTC)</th><th>To</th><th>Subject</th></tr>{rows}</table>"
    newer = f"<a href='/?start={max(0, start - PAGE_SIZE)}'>newer</a> " if start else ""
    older = f"<a href='/?start={start + PAGE_SIZE}'>older</a>" if start + PAGE_SIZE < total else ""
    heading = f"<h1>Mailbox <span class='dim'>{total} messages</span></h1>"
    return page("Mailbox", heading + (table if rows else empty) + f"<p>{newer}{older}</p>", refresh=5)


def message(summary: Summary, text: str, html: str) -> str:
    """One message with its text and its HTML."""
    facts = "".join(
        f"<tr><th>{name}</th><td>{value}</td></tr>"
        for name, value in (
            ("From", people([summary.sender])),
            ("To", people(summary.to)),
            ("Received", f"{summary.received:%Y-%m-%d %H:%M:%S} UTC"),
            ("Message-ID", escape(summary.message_id)),
        )
    )
    # `sandbox` without a value: no script, no form, no navigation, an origin of its own.
    frame = (
        f"<h2>HTML</h2><iframe sandbox title='HTML body' srcdoc='{escape(html)}'></iframe>" if html else ""
    )
    plain = f"<h2>Text</h2><pre>{escape(text)}</pre>" if text else ""
    links = (
        f"<p><a href='/'>All messages</a> · <a href='/api/v1/message/{escape(summary.id)}/raw'>Source</a></p>"
    )
    title = escape(summary.subject or "(no subject)")
    return page(title, f"{links}<h1>{title}</h1><table>{facts}</table>{plain}{frame}")


def people(found: Iterable[Address]) -> str:
    return ", ".join(escape(f"{who.name} <{who.address}>" if who.name else who.address) for who in found)


def page(title: str, content: str, refresh: int | None = None) -> str:
    """A whole document around escaped content."""
    again = f"<meta http-equiv='refresh' content='{refresh}'>" if refresh else ""
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'>{again}"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{title}</title><style>{STYLE}</style></head><body>{content}</body></html>"
    )
