"""What the user service is made of. The only file that knows all others."""

from collections.abc import AsyncIterator

import grpc

from millrace import EventStore, Http, Migrations, Runtime, Service, StreamKind
from millrace.http.waiting import Waiters
from schemas.events.users import USER_EVENTS
from schemas.grpc.callers import CALLERS
from schemas.grpc.users_pb2_grpc import add_UsersServicer_to_server
from schemas.topics import USERS
from user_service import audit, http
from user_service.commands import UserCommands
from user_service.domain import USER, command_of
from user_service.grpc_server import UsersServicer
from user_service.http import UserResources
from user_service.privacy import Privacy, PrivacyKeys
from user_service.queries import CurrentContacts, UserQueries
from user_service.read_models.users import Users
from user_service.settings import UserSettings

service: Service[UserSettings, UserResources] = Service(
    "user-service",
    UserSettings,
    topic=USERS,
    events=USER_EVENTS,
    streams=[StreamKind("user-", USER, command_of=command_of)],
    read_models=[Users()],
    http=Http("Millrace users", http.router, "Who takes part, and how to reach them.", http.REFUSALS),
    migrations=[Migrations("user_service", "user_service.migrations")],
    invariants=audit.invariants,
)


@service.resources
async def resources(run: Runtime[UserSettings]) -> AsyncIterator[UserResources]:
    """What the doors need."""
    privacy = Privacy(run.settings.master_key)
    queries = UserQueries(run.reading, privacy)
    yield UserResources(
        commands=UserCommands(run.store, PrivacyKeys(run.pool, privacy), privacy),
        queries=queries,
        waiters=Waiters(queries.versions, run.projected(Users)),
        contacts=CurrentContacts(EventStore(run.reading, USER_EVENTS), PrivacyKeys(run.reading, privacy)),
    )


@service.grpc(CALLERS)
def servicers(server: grpc.aio.Server, resources: UserResources) -> None:
    """The gRPC door."""
    add_UsersServicer_to_server(UsersServicer(resources.contacts), server)
