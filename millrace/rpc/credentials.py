"""What both ends show each other: mutual TLS, always. There is no other way in or out."""

import grpc

from millrace.tls.files import Credentials
from millrace.tls.identity import Identity

MAX_MESSAGE = 64 * 1024
"""Bytes of a message, in both directions."""

MESSAGE_LIMITS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
)


def server_credentials(identity: Identity) -> grpc.ServerCredentials:
    """For a server that takes nobody without a certificate. A new connection gets the certificate that the
    files hold then."""
    first = identity.current()
    shown = [first]

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        """Called for each connection, in threads of the library's. None: as before."""
        current = identity.current()
        if current is shown[0]:
            return None
        shown[0] = current
        return _configuration(current)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(first),
        renewed,  # type: ignore[arg-type]  # the stubs do not know that it may return None
        require_client_authentication=True,
    )


def channel_credentials(credentials: Credentials) -> grpc.ChannelCredentials:
    """For a channel to a server of the same CA."""
    return grpc.ssl_channel_credentials(credentials.ca, credentials.key, credentials.certificate)


def _configuration(credentials: Credentials) -> grpc.ServerCertificateConfiguration:
    pair = (credentials.key, credentials.certificate)
    return grpc.ssl_server_certificate_configuration([pair], credentials.ca)
