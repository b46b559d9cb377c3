"""What the user service is told: USER_... variables."""

import base64
import binascii
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_settings import SettingsConfigDict

from millrace import Port, ServiceSettings
from user_service.privacy import KEY_BYTES


def _decode(value: str) -> bytes:
    try:
        return base64.b64decode(value, altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        return b""


def _master_key(value: str) -> str:
    if len(_decode(value)) != KEY_BYTES:
        raise ValueError(f"expected {KEY_BYTES} bytes in url-safe base64")
    return value


class UserSettings(ServiceSettings):
    """Settings of the user service. Losing the master key loses every user's contact details: back it up."""

    model_config = SettingsConfigDict(env_prefix="USER_")

    http_port: Port = 8004
    internal_port: Port = 7004
    grpc_port: Port = 9004
    privacy_master_key: Annotated[str, AfterValidator(_master_key)] = Field(
        repr=False, description="the key that wraps the users' keys: 32 random bytes in url-safe base64"
    )

    @property
    def master_key(self) -> bytes:
        """The master key, decoded."""
        return _decode(self.privacy_master_key)
