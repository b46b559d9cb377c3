"""How long a process may take itself for the leader, by its own clock."""

from millrace.postgres.lease import Lease


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_lease_that_is_not_renewed_expires() -> None:
    clock = Clock()
    lease = Lease(10.0, granted=clock.now, clock=clock)
    clock.now += 9.9
    assert not lease.expired
    clock.now += 0.2
    assert lease.expired


def test_a_renewal_counts_from_when_it_was_asked_for() -> None:
    clock = Clock()
    lease = Lease(10.0, granted=clock.now, clock=clock)
    clock.now += 8.0  # the database took its time
    lease.renewed(101.0)
    assert lease.age == 7.0
    clock.now += 3.1
    assert lease.expired


def test_an_older_renewal_that_is_answered_late_does_not_shorten_it() -> None:
    clock = Clock()
    lease = Lease(10.0, granted=clock.now, clock=clock)
    lease.renewed(105.0)
    lease.renewed(103.0)
    clock.now = 114.0
    assert not lease.expired


def test_it_is_renewed_long_before_it_expires() -> None:
    clock = Clock()
    lease = Lease(10.0, granted=clock.now, clock=clock)
    assert lease.until_renewal == 2.0
    clock.now += 5.0
    assert lease.until_renewal == 0.0
