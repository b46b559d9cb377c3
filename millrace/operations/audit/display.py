"""The report for people: a table of the checks, below it what was found."""

from typing import Any

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from millrace.operations.audit.findings import Report
from millrace.runtime.printable import tidy

_SHOWN = 5  # findings of a kind; the others are in --json
_STYLE = {"violation": "bold red", "pending": "yellow"}


def show_report(console: Console, report: Report) -> None:
    """Print it."""
    console.print(rendered([report.to_json()]))


def rendered(reports: list[dict[str, Any]]) -> RenderableType:
    """Reports (as their JSON) as one table and one list of findings."""
    reports = tidy(reports)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("service", "check", "looked at", "result"):
        table.add_column(column, overflow="fold")
    for report in reports:
        name = report["service"]
        for check in report["checks"]:
            figures = ", ".join(f"{_number(value)} {label}" for label, value in check["figures"].items())
            table.add_row(name, check["name"], figures, _result(check))
            name = ""
    findings = [line for report in reports for line in _findings(report)]
    return Group(table, *findings, Text(), *map(_verdict, reports))


def _result(check: dict[str, Any]) -> str:
    parts = []
    if count := check["violations"]:
        parts.append(f"[{_STYLE['violation']}]{count:,} violation{'s' * (count > 1)}[/]")
    if count := check["pending"]:
        parts.append(f"[{_STYLE['pending']}]{count:,} pending[/]")
    return ", ".join(parts) or "[green]clean[/green]"


def _findings(report: dict[str, Any]) -> list[RenderableType]:
    lines: list[RenderableType] = []
    for check in report["checks"]:
        for kind in check["findings"]:
            style, items = _STYLE[kind["severity"]], kind["items"]
            lines.append(
                Text.from_markup(
                    f"\n[{style}]{kind['severity']}[/] {report['service']}, {escape(check['name'])}:"
                    f" [bold]{kind['kind']}[/bold] ({kind['count']:,})"
                )
            )
            lines += [Text(f"  {item['what']}") for item in items[:_SHOWN]]
            if kind["count"] > _SHOWN:
                lines.append(Text(f"  … and {kind['count'] - _SHOWN:,} more: --json has them", style="dim"))
            if items[0]["remedy"]:
                lines.append(Text(f"  → {items[0]['remedy']}", style="italic"))
    return lines


def _verdict(report: dict[str, Any]) -> RenderableType:
    if count := report["violations"]:
        verdict = f"[{_STYLE['violation']}]{count:,} violation{'s' * (count > 1)}[/]"
    else:
        verdict = "[green]clean[/green]"
    waiting = f", {report['pending']:,} pending" if report["pending"] else ""
    return Text.from_markup(f"{report['service']}: {verdict}{waiting} [dim]({report['seconds']:.1f} s)[/dim]")


def _number(value: int | str) -> str:
    return f"{value:,}" if isinstance(value, int) else value
