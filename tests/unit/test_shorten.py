"""Ids and keys of other people don't fill a screen: on the board, in `millrace lag`, in the audit."""

from rich.console import Console

from board.document import Path, State
from board.headline import headline
from infra.lag_cli import rendered, rendered_trace
from millrace.operations.audit.display import rendered as rendered_audit
from millrace.operations.audit.findings import Check, Report, pending, violation
from millrace.runtime.shorten import LINE, LONGEST, readable, shortened
from tests.unit import board_examples as examples

KEY = "a" * 1990 + "middle" + "z" * 2004
SPACED = ("a key with blanks " * 300)[:4000]


def printed(what: object) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(what)
    return captured.get()


def test_an_id_of_ours_is_left_as_it_is() -> None:
    assert shortened(examples.ORDER) == examples.ORDER
    assert readable(f"{examples.ORDER} waits") == f"{examples.ORDER} waits"


def test_a_long_id_keeps_its_beginning_and_its_end() -> None:
    short = shortened(KEY)
    assert len(short) == LONGEST
    assert short.startswith("aaa")
    assert "…" in short
    assert short.endswith("zzz")
    assert shortened(short) == short


def test_a_finding_shows_no_key_in_full_and_has_it_for_programs() -> None:
    check = Check("topic")
    for key in (KEY, SPACED):
        check.add([violation("unreadable", f"partition 3: the key is {key!r}", "remove it", stream=key)])
        check.add([pending("parked-stream", f"{key} is parked: ValueError: {key}", stream=key)])
    check.add([violation("other", f"the error quotes {SPACED}", "remove it")])
    report = Report("order", {}, [check], 0.1).to_json()

    items = [item for kind in report["checks"][0]["findings"] for item in kind["items"]]
    assert max(len(item["what"]) for item in items) <= LINE
    assert {item["where"].get("stream") for item in items} == {KEY, SPACED, None}
    said = printed(rendered_audit([report]))
    assert "middle" not in said
    assert len(said) < 5000


def test_the_board_shows_no_group_id_in_full() -> None:
    held = examples.topic_path("order", KEY, "order", "orders.events", KEY, state=State.STOPPED, age=3.0)
    stages = [
        stage.model_copy(update={"state": State.STOPPED, "text": f"stopped: {KEY}"}) for stage in held.stages
    ]
    path: Path = held.model_copy(update={"stages": stages})

    assert "middle" not in headline(examples.AT, [path], [examples.source("kafka")]).text
    board = examples.board([path])
    assert "middle" not in printed(rendered(board, width=200))


def test_a_trace_shows_no_stream_id_in_full() -> None:
    trace = examples.trace(examples.ORDER)
    events = [event.model_copy(update={"stream_id": KEY}) for event in trace.events]
    shown = printed(rendered_trace(trace.model_copy(update={"events": events, "text": f"{KEY}: 1 event"})))
    assert "middle" not in shown
