"""Connections that the service opens, except those to its stores: which authorities they trust, and why one failed.

They go to the webhook, the mail server, a collector or a range service (of leaked passwords). The certificate
authorities are those of `SSL_CERT_FILE` or `SSL_CERT_DIR`, the variables of OpenSSL, if one is set, and otherwise the
system's. (For the collector a variable of its own comes first: see `operations/tracing`.) To add a private authority
to the system's, name a file that contains both.
"""

import os
import socket
import ssl
from pathlib import Path

from service.errors import ConfigurationError

FAILURES = {
    "untrusted_certificate": "The certificate is not trusted. SSL_CERT_FILE names the authorities that are.",
    "tls": "There is no TLS connection. Does the port speak TLS, of version 1.2 or 1.3?",
    "unknown_host": "The name is not known to DNS.",
    "refused": "Nothing listens at that address and port.",
    "timeout": "There was no answer in time. Does a firewall or a network policy drop the packets?",
    "unreachable": "There is no route to that address.",
    "disconnected": "The connection ended before the answer.",
}
"""The reasons why a connection fails, each with a sentence for the operator. The log has the keys."""


def make_tls_context() -> ssl.SSLContext:
    """Return a context for verified connections: with `SSL_CERT_FILE`, else `SSL_CERT_DIR`, else the system's.

    `ssl.create_default_context` would trust the system's folder as well as the file. The call may take 20 ms.
    """
    import httpx2  # imported late: a service that opens no connection needs no client

    return httpx2.create_ssl_context()


def check_authorities() -> None:
    """Raise `ConfigurationError` unless `SSL_CERT_FILE`, if set, has a certificate, and `SSL_CERT_DIR` a folder."""
    file = os.environ.get("SSL_CERT_FILE")
    if file:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
        except OSError as error:  # ssl.SSLError is one
            why = (
                "has no certificate in PEM"
                if isinstance(error, ssl.SSLError)
                else f"cannot be read: {error.strerror}"
            )
            raise ConfigurationError(
                f"SSL_CERT_FILE: {file} {why}. Name a file of certificate authorities in PEM, or unset it."
            ) from None
    folder = os.environ.get("SSL_CERT_DIR")
    if folder and not any(Path(part).is_dir() for part in folder.split(os.pathsep)):
        raise ConfigurationError(
            f"SSL_CERT_DIR: {folder} is not a folder. Name a folder of certificates, or unset it."
        )


def failure_of(error: BaseException) -> str:
    """Return the key in `FAILURES` for the error of a client of HTTP or SMTP. It may be several causes deep."""
    found: BaseException | None = error
    name = "disconnected"
    while found is not None:
        match found:
            case ssl.SSLCertVerificationError():
                return "untrusted_certificate"
            case ssl.SSLError():
                return "tls"
            case socket.gaierror():
                return "unknown_host"
            case ConnectionRefusedError():
                return "refused"
            case TimeoutError():
                name = "timeout"
            case OSError() if not isinstance(found, ConnectionError):
                name = "unreachable"
            case _ if "Timeout" in type(found).__name__:
                name = "timeout"
        found = found.__cause__ or found.__context__
    return name
