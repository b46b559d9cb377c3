"""Which command an event of a user stands for, when it is decided again behind events that were missing."""

from schemas.events.users import USER_EVENTS
from tests.unit.command_kit import answers, assert_decides_again, redecided
from tests.unit.user.test_user_domain import contact_changed, deactivated, registered
from user_service.app import service
from user_service.domain import USER, command_of

LIFE = [registered, contact_changed, deactivated]


def test_every_event_type_has_its_answer() -> None:
    assert answers(USER_EVENTS, command_of, [LIFE]) == {
        "UserRegistered": "None",
        "UserContactChanged": "ChangeContact",
        "UserDeactivated": "DeactivateUser",
    }


def test_an_event_comes_out_of_its_command_again() -> None:
    assert_decides_again(USER, command_of, LIFE)


def test_a_user_who_was_deactivated_meanwhile_keeps_the_old_contact() -> None:
    redecided(USER, command_of, contact_changed, behind=[registered, deactivated]).then_refused(
        "user_deactivated"
    )
    redecided(USER, command_of, deactivated, behind=[registered, deactivated]).then_nothing()


def test_the_service_declares_it() -> None:
    assert [kind.command_of for kind in service.definition.streams] == [command_of]
