"""The store itself, and how findings are kept and counted."""

from datetime import timedelta
from io import StringIO

from rich.console import Console

from millrace.operations.audit.display import rendered
from millrace.operations.audit.findings import KEPT, Check, Finding, Report, Severity, pending, violation
from millrace.operations.audit.store import StoreCheck
from tests.unit.audit_kit import BEGAN, Store, kinds


def audit(store: Store) -> tuple[StoreCheck, list[Finding]]:
    check = StoreCheck()
    return check, [finding for event in store.events for finding in check.apply(event)]


def test_a_sound_store_is_clean() -> None:
    store = Store()
    for stream in ("a", "b", "a", "a"):
        store.append(stream)

    check, found = audit(store)

    assert found == []
    assert (check.events, check.streams, check.clock_steps_back) == (4, 2, 0)


def test_a_version_that_is_missing_is_named() -> None:
    store = Store()
    store.append("a")
    store.append("a", version=3)
    store.append("a")  # 4: told of once

    _, found = audit(store)

    assert kinds(found) == ["version-gap"]
    assert "holds version 3 of a, expected 2" in found[0].what


def test_a_version_that_occurs_twice_is_named() -> None:
    store = Store()
    store.append("a")
    store.append("a", version=1)

    assert kinds(audit(store)[1]) == ["version-gap"]


def test_an_event_that_cannot_be_read_is_named_with_the_reason() -> None:
    store = Store()
    store.append("a", event_type="Bought")
    store.append("a", data=b'{"n": "many"}')
    store.append("a")

    check, found = audit(store)

    assert kinds(found) == ["unreadable-event", "unreadable-event"]
    assert "Bought version 1: this program knows no event of that type" in found[0].what
    assert "n" in found[1].what
    assert check.readable


def test_a_clock_that_was_set_back_is_a_figure() -> None:
    store = Store()
    store.append("a")
    store.append("a", recorded_at=BEGAN - timedelta(seconds=1))
    store.append("a")

    check, found = audit(store)

    assert found == []
    assert check.clock_steps_back == 1


def test_of_very_many_findings_the_first_ones_are_kept_and_all_are_counted() -> None:
    check = Check("some")
    check.add(violation("broken", f"number {n}", "mend it") for n in range(KEPT + 500))
    check.add_more(Severity.VIOLATION, "broken", 7)
    check.add([pending("waits", "for something")])

    report = Report("some-service", {}, [check], 1.0)

    assert (report.violations, report.pending) == (KEPT + 507, 1)
    broken, waits = check.to_json()["findings"]
    assert (broken["kind"], broken["count"], len(broken["items"])) == ("broken", KEPT + 507, KEPT)
    assert (waits["severity"], waits["count"]) == ("pending", 1)
    assert not report.to_json()["clean"]


def test_pending_is_clean() -> None:
    check = Check("some")
    check.add([pending("waits", "for something")])

    assert Report("some-service", {}, [check], 1.0).to_json()["clean"]


def test_people_read_what_is_wrong_where_and_what_to_do() -> None:
    check = Check("some check")
    check.figures["events"] = 12_345
    check.add(violation("broken", f"[{n}] is broken", "mend it", position=n) for n in range(7))
    shown = StringIO()

    Console(file=shown, width=120).print(rendered([Report("some-service", {}, [check], 1.0).to_json()]))

    text = shown.getvalue()

    assert "12,345 events" in text
    assert "7 violations" in text
    assert "[0] is broken" in text
    assert "… and 2 more" in text
    assert "→ mend it" in text
