"""What the inventory service is told: INVENTORY_... variables."""

from pydantic_settings import SettingsConfigDict

from millrace import Port, ServiceSettings


class InventorySettings(ServiceSettings):
    """Settings of the inventory service."""

    model_config = SettingsConfigDict(env_prefix="INVENTORY_")

    http_port: Port = 8002
    internal_port: Port = 7002
    grpc_port: Port = 9002
