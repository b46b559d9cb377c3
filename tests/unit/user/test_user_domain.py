"""The life of a user: registered, reachable, deactivated."""

from uuid import UUID

from millrace.testing import given
from schemas.events.users import UserContactChanged, UserDeactivated, UserRegistered
from user_service.domain import USER, ChangeContact, DeactivateUser, RegisterUser, User

ADA = UUID("0190b1a4-0000-7000-8000-00000000ada0")

registered = UserRegistered(user_id=ADA, sealed_contact="sealed-1")
contact_changed = UserContactChanged(user_id=ADA, sealed_contact="sealed-2")
deactivated = UserDeactivated(user_id=ADA, reason="moved away")


def test_somebody_registers() -> None:
    given(USER).when(RegisterUser(ADA, "sealed-1")).then([registered])


def test_nobody_registers_twice() -> None:
    given(USER, [registered]).when(RegisterUser(ADA, "sealed-1")).then_refused("user_already_registered")


def test_a_user_changes_contact_details() -> None:
    given(USER, [registered]).when(ChangeContact("sealed-2")).then([contact_changed])


def test_an_unknown_user_has_no_contact_details_to_change() -> None:
    given(USER).when(ChangeContact("sealed-2")).then_refused("user_not_found")


def test_a_deactivated_user_keeps_the_last_contact_details() -> None:
    given(USER, [registered, deactivated]).when(ChangeContact("sealed-2")).then_refused("user_deactivated")


def test_a_user_is_deactivated_for_a_reason() -> None:
    given(USER, [registered]).when(DeactivateUser("moved away")).then([deactivated])


def test_deactivating_twice_changes_nothing() -> None:
    given(USER, [registered, deactivated]).when(DeactivateUser("again")).then_nothing()


def test_an_unknown_user_cannot_be_deactivated() -> None:
    given(USER).when(DeactivateUser()).then_refused("user_not_found")


def test_the_latest_contact_details_count() -> None:
    assert USER.fold([registered, contact_changed]) == User(ADA, "sealed-2", active=True)


def test_a_deactivated_user_is_still_known() -> None:
    assert USER.fold([registered, deactivated]) == User(ADA, "sealed-1", active=False)
