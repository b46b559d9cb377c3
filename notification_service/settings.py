"""What the notification service is told: NOTIFICATION_... variables."""

from email.errors import MessageError
from email.message import EmailMessage
from email.utils import parseaddr
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_settings import SettingsConfigDict

from millrace import GrpcTarget, Port, ServiceSettings
from notification_service.message import mailbox


def _sender(value: str) -> str:
    message = EmailMessage()
    try:
        message["From"] = value
        mailbox(*parseaddr(value))
    except (ValueError, MessageError):
        raise ValueError("expected an address such as Shop <orders@example.com>") from None
    header = message["From"]
    if header.defects or len(header.addresses) != 1 or not header.addresses[0].domain:
        raise ValueError("expected an address such as Shop <orders@example.com>")
    return value


class NotificationSettings(ServiceSettings):
    """Settings of the notification service."""

    model_config = SettingsConfigDict(env_prefix="NOTIFICATION_")

    http_port: Port = 8003
    internal_port: Port = 7003
    grpc_port: Port = 9003
    user_grpc_target: GrpcTarget = "127.0.0.1:9004"
    smtp_host: str = "127.0.0.1"
    smtp_port: Port = 1025
    mail_from: Annotated[str, AfterValidator(_sender)] = Field(
        "Millrace <orders@millrace.example>", description="the sender of all e-mails"
    )
