"""Why Redis cannot be used, as a kind for programs and one sentence for operators.

The sentences are written in this module and not taken from the server or the driver: their texts quote commands with
arguments, which are passwords, usernames and addresses. An error that this module does not know is reported by its
class and the error code of Redis.
"""

import errno
import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

from redis import exceptions as redis_errors

from service.redis_url import RedisAddress
from service.storage.redis_client import MasterDown, MasterUnknown, SentinelUnavailable

_CODES = {
    "LOADING": ("loading", "{who} is still loading its data"),
    "OOM": ("full", "{who} has no memory left and accepts no writes (maxmemory)"),
    "READONLY": ("read_only", "{who} is a replica and accepts no writes: KEYTURN_REDIS_URL must name the primary"),
    "MISCONF": ("cannot_save", "{who} accepts no writes because it cannot save its data to disk"),
    "NOREPLICAS": ("no_replicas", "{who} accepts no writes because it has too few replicas"),
    "DENIED": ("protected_mode", "{who} is in protected mode: set a password for it"),
    "CLUSTERDOWN": ("cluster_down", "The Redis Cluster is down or does not cover all slots"),
    "MASTERDOWN": ("cluster_down", "{who} has lost its primary"),
    "MOVED": ("is_cluster", "{who} is a node of a Cluster: write redis+cluster:// or rediss+cluster:// for it"),
    "NOAUTH": ("password_missing", "{who} requires a password, and none is set: set {credentials}"),
    "WRONGPASS": ("wrong_password", "{who} refuses the user name or the password: correct {credentials}"),
}
"""Kind and sentence for the error codes of Redis."""

_TEXTS = (
    (r"invalid password", *_CODES["WRONGPASS"]),
    (
        r"without any password configured|no password is set",
        "password_not_wanted",
        "{who} has no password, and KEYTURN_REDIS_URL contains one: {remedy}",
    ),
    (r"max number of clients", "too_many_clients", "{who} has too many clients (maxclients)"),
    (r"db index|select is not allowed|invalid database", "unknown_database", "{who} has no database {database}"),
    (r"cluster support disabled", "no_cluster", "{who} is not a Cluster: write redis:// or rediss:// for it"),
    (
        r"unknown command ['`]set['`]",
        "no_redis",
        "The server has no command SET: if it is a Sentinel, write redis+sentinel:// or rediss+sentinel:// for it",
    ),
    (
        r"unknown command ['`]sentinel['`]",
        "no_sentinel",
        "The server is not a Sentinel: name the Sentinels in KEYTURN_REDIS_URL, usually at port 26379",
    ),
)
"""Pattern, kind and sentence for errors that share the code ERR."""

_SENTINEL_CREDENTIALS = "sentinel_username and sentinel_password in KEYTURN_REDIS_URL"
_SILENCE = ("timed_out", "{who} does not answer in time")
_TLS_SILENCE = (
    "tls_no_answer",
    "{who} does not answer in time: it may not speak TLS at this port, which KEYTURN_REDIS_URL requires",
)
_CLOSED = ("closed", "{who} closed the connection")
_CUT = ("closed", "{who} cut the connection: if it expects TLS, or none, correct the scheme of KEYTURN_REDIS_URL")
_NO_ROUTE = ("unreachable", "There is no route to a host of KEYTURN_REDIS_URL")
_NOT_ALLOWED = ("not_allowed", "This process may not connect to the address in KEYTURN_REDIS_URL")
_NETWORK = {
    errno.ECONNREFUSED: (
        "refused",
        "{who} refuses the connection: nothing listens at the address in KEYTURN_REDIS_URL",
    ),
    errno.ENOENT: ("no_socket", "There is no socket at the path of KEYTURN_REDIS_URL"),
    errno.EACCES: _NOT_ALLOWED,
    errno.EPERM: _NOT_ALLOWED,
    errno.ECONNRESET: _CUT,
    errno.EPIPE: _CUT,
    errno.EHOSTUNREACH: _NO_ROUTE,
    errno.ENETUNREACH: _NO_ROUTE,
}
"""Kind and sentence for errors of the operating system."""

_BY_CLASS: dict[type[BaseException], tuple[str, str]] = {
    MasterUnknown: (
        "unknown_master",
        "The Sentinels know no master with the name in KEYTURN_REDIS_URL (by default mymaster)",
    ),
    MasterDown: ("master_down", "The Sentinels consider the master to be down"),
    redis_errors.InvalidResponse: (
        "no_redis",
        "The server is not Redis, or expects TLS: KEYTURN_REDIS_URL needs another port or a scheme with TLS (rediss://)",
    ),
}
_NO_TLS = ("tls_mismatch", "KEYTURN_REDIS_URL requires TLS, which {whom} does not speak at this port")


@dataclass(frozen=True, slots=True)
class Fault:
    """Why Redis cannot be used: `kind` is one of few words, `reason` a sentence without secrets."""

    kind: str
    reason: str


def explain(error: BaseException, address: RedisAddress, *, has_answered: bool) -> Fault:
    """Explain an error of the driver by the deepest of its causes that this module knows.

    `has_answered`: whether this client has ever received an answer. Without one, TLS may not match: a server without
    TLS does not answer a client with TLS, and a server with TLS closes the connection of a client without TLS. But a
    server that stops does the same.
    """
    causes, has_tls = list(_causes(error)), address.tls is not None
    at_sentinel = any(isinstance(cause, SentinelUnavailable) for cause in causes)
    words = {
        "who": "The Sentinel" if at_sentinel else "Redis",
        "whom": "the Sentinel" if at_sentinel else "Redis",
        "credentials": _SENTINEL_CREDENTIALS if at_sentinel else "KEYTURN_REDIS_URL",
        "remedy": "add the option sentinel_password= without a value" if at_sentinel else "remove it",
        "database": str(address.database),
    }
    for cause in reversed(causes):
        known = _known(cause, has_tls=has_tls)
        if known is not None:
            if known is _SILENCE and has_tls and not has_answered:
                known = _TLS_SILENCE
            kind, sentence = _CLOSED if known[0] == _CLOSED[0] and has_answered else known
            return Fault(kind, f"{sentence.format_map(words)}.")
    first = causes[-1]
    code = _code(first)
    detail = f" {code}" if code else ""
    return Fault("other", f"{words['who']} cannot be used ({type(first).__name__}{detail}).")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and its causes, outermost first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _known(error: BaseException, *, has_tls: bool) -> tuple[str, str] | None:
    """Return kind and sentence of one error, or `None` if it explains nothing by itself."""
    if type(error) in _BY_CLASS:
        return _BY_CLASS[type(error)]
    match error:
        case redis_errors.ResponseError() | redis_errors.ConnectionError():
            return _answer(error) or _closed(error, has_tls=has_tls)
        case ssl.SSLError():
            return _tls(error)
        case OSError() | redis_errors.TimeoutError():
            return _network(error)
    return None


def _answer(error: Exception) -> tuple[str, str] | None:
    """Return kind and sentence for an error that Redis answered, or `None`."""
    text, code = str(error), _code(error)
    if code == "NOPERM" or "no permissions" in text.lower() or "can't run this command" in text:
        return "missing_right", _missing_right(text)
    if code in _CODES:
        return _CODES[code]
    for pattern, kind, sentence in _TEXTS:
        if re.search(pattern, text.lower()):
            return kind, sentence
    unknown = re.match(r"unknown command ['`]([A-Za-z|]{1,20})['`]", text)
    if unknown is not None:
        return "unknown_command", f"{{who}} does not know the command {unknown[1].upper()}, which the service needs"
    return None


def _missing_right(text: str) -> str:
    command = re.search(r"'([A-Za-z|]{1,30})' command", text)
    if command is not None:
        lacking = f"may not run {command[1].upper()}"
    elif "key" in text:
        lacking = "may not use the keys keyturn:*"
    else:
        lacking = "lacks a right that the service needs"
    return f"The user of KEYTURN_REDIS_URL {lacking}: {{whom}} answers NOPERM"


def _code(error: BaseException) -> str:
    """Return Redis' error code. redis-py removes the codes that it knows from the text."""
    code = getattr(error, "status_code", None)
    if code is None and isinstance(error, redis_errors.RedisError):
        code = str(error).partition(" ")[0]
    return code if isinstance(code, str) and re.fullmatch(r"[A-Z]{2,20}", code) else ""


def _tls(error: ssl.SSLError) -> tuple[str, str]:
    if isinstance(error, ssl.SSLCertVerificationError):
        why = re.split(r"[,'\"]", error.verify_message)[0].strip() or "it could not be verified"
        return (
            "tls_certificate",
            f"The TLS certificate of {{whom}} is refused: {why.replace('{', '').replace('}', '')}",
        )
    reason = (error.reason or "").upper()
    if "WRONG_VERSION" in reason or "RECORD" in reason or "HTTP_REQUEST" in reason or "PACKET_LENGTH" in reason:
        return _NO_TLS
    if "CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason:
        return "tls_client_certificate", (
            "{who} requires a client certificate: name it in ssl_certfile and ssl_keyfile of KEYTURN_REDIS_URL"
        )
    if "UNKNOWN_CA" in reason or "BAD_CERTIFICATE" in reason or "CERTIFICATE_UNKNOWN" in reason:
        return "tls_client_certificate", "{who} refuses the client certificate in ssl_certfile of KEYTURN_REDIS_URL"
    return "tls_failed", f"The TLS connection to {{whom}} failed ({re.sub(r'[^A-Z0-9_]', '', reason) or 'SSLError'})"


def _network(error: Exception) -> tuple[str, str] | None:
    if isinstance(error, TimeoutError | redis_errors.TimeoutError):
        return _SILENCE
    if isinstance(error, socket.gaierror):
        return "unknown_host", "A host name in KEYTURN_REDIS_URL cannot be resolved"
    number = getattr(error, "errno", None)
    # asyncio joins the errors of the several addresses of a host into one text.
    numbers = [number] if number is not None else [int(found) for found in re.findall(r"Errno (\d+)", str(error))]
    return next((_NETWORK[known] for known in numbers if known in _NETWORK), None)


def _closed(error: Exception, *, has_tls: bool) -> tuple[str, str] | None:
    if "closed" not in str(error).lower():
        return None
    if has_tls:
        return (
            "closed",
            "{who} closed the connection, perhaps because it requires a client certificate (ssl_certfile)",
        )
    return (
        "closed",
        "{who} closed the connection without an answer: if it expects TLS, write a scheme with TLS (rediss://)",
    )
