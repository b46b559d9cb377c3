"""What the order service is told: ORDER_... variables."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from millrace import GrpcTarget, Port, ServiceSettings


class OrderSettings(ServiceSettings):
    """Settings of the order service."""

    model_config = SettingsConfigDict(env_prefix="ORDER_")

    http_port: Port = 8001
    internal_port: Port = 7001
    grpc_port: Port = 9001
    inventory_grpc_target: GrpcTarget = Field(
        "127.0.0.1:9002", description="where inventory answers queries: host:port"
    )
