"""For how long the append lock is held, as somebody sees it who looks now and then."""

from millrace.store.append_lock import LockHolder, LockWatch


def held(hold: str) -> LockHolder:
    return LockHolder(4711, "order_service", "psql", hold)


def test_a_hold_lasts_from_the_first_look_that_saw_it() -> None:
    watch = LockWatch()
    assert [watch.held_for(held("4711 3/7"), now) for now in (10.0, 11.0, 15.5)] == [0.0, 1.0, 5.5]


def test_another_transaction_of_the_same_session_is_another_hold() -> None:
    watch = LockWatch()
    watch.held_for(held("4711 3/7"), 10.0)
    assert watch.held_for(held("4711 3/8"), 11.0) == 0.0


def test_a_lock_that_was_free_in_between_is_held_from_then_on() -> None:
    watch = LockWatch()
    watch.held_for(held("4711 3/7"), 10.0)
    assert watch.held_for(None, 11.0) == 0.0
    assert watch.held_for(held("4711 3/7"), 12.0) == 0.0


def test_a_holder_is_named_for_people() -> None:
    assert str(held("4711 3/7")) == "pid 4711 (login order_service, application psql)"
    assert str(LockHolder(4711, "postgres", "", "4711 3/7")) == "pid 4711 (login postgres)"
