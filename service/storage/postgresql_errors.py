"""Which errors of PostgreSQL and its driver mean that the database cannot be used, and what operators read then.

An *outage* is an error that the operator must correct or that passes with time: the answer is 503, and `doctor` and
`/readyz` report it. So does the log, unless the outage is momentary. Every other error (a constraint, bad SQL, a
wrong type) is a defect of this program: the answer is 500, and the log has the traceback.

The table is keyed by SQLSTATE (PostgreSQL documentation, appendix A); the longest matching prefix applies. The
sentences contain the server's own message, which names users, databases and tables, and never a password.
"""

import socket
import ssl
from dataclasses import dataclass

import asyncpg


@dataclass(frozen=True, slots=True)
class Outage:
    """Why the database cannot be used.

    `is_lasting`: waiting does not help, because a setting or a right is wrong. `is_momentary`: it affected one
    statement and says nothing about the next one.
    """

    reason: str
    is_lasting: bool = False
    is_momentary: bool = False


@dataclass(frozen=True, slots=True)
class _OutageKind:
    advice: str = ""
    is_lasting: bool = False
    is_momentary: bool = False


_GRANT_ADVICE = "Grant the role its rights: docs/guides/postgresql.md, section Rights."
_OPTION_ADVICE = "Correct the option of KEYTURN_DATABASE_URL that this names, or remove it."

OUTAGES = {
    # Only for a cached plan (see `_kind`): a migration changed a table while this process served.
    "0A000": _OutageKind(is_momentary=True),
    "08": _OutageKind(),
    "25006": _OutageKind("It is read-only: name the primary, or add target_session_attrs=read-write."),
    "25P03": _OutageKind(),
    # These two: a pooler in between has changed the connection, and with it the prepared statements.
    "26000": _OutageKind(is_momentary=True),
    "42P05": _OutageKind(is_momentary=True),
    "28": _OutageKind(
        "Correct the user in KEYTURN_DATABASE_URL, or add a line for it to pg_hba.conf.", is_lasting=True
    ),
    "28P01": _OutageKind("Correct the user and the password in KEYTURN_DATABASE_URL.", is_lasting=True),
    "3D000": _OutageKind("Correct the database in KEYTURN_DATABASE_URL, or create it (createdb).", is_lasting=True),
    "3F000": _OutageKind("Create the schema that search_path names, and grant its use.", is_lasting=True),
    "40": _OutageKind(is_momentary=True),
    "42501": _OutageKind(_GRANT_ADVICE, is_lasting=True),
    "53": _OutageKind(),
    "53300": _OutageKind("Raise max_connections, or put a pooler in front: each worker opens up to 10."),
    "55": _OutageKind(is_momentary=True),
    "57": _OutageKind(),
    "57014": _OutageKind("Is statement_timeout too short?", is_momentary=True),
    "58": _OutageKind("Check the server's log and its disk."),
    "72": _OutageKind(),
    "F0": _OutageKind("Check the server's configuration."),
    "XX": _OutageKind("Check the server's log."),
}
"""The errors that are outages on an open connection."""

AT_CONNECT = {
    "0P": _OutageKind(_OPTION_ADVICE, is_lasting=True),
    "22": _OutageKind(_OPTION_ADVICE, is_lasting=True),
    "42": _OutageKind(_OPTION_ADVICE, is_lasting=True),
    "42501": _OutageKind("Grant the role CONNECT on the database.", is_lasting=True),
}
"""The errors that are also outages while connecting, because none of our statements has been sent yet."""

_POOLER_REFUSES = {
    "unsupported startup parameter": "Name it in ignore_startup_parameters of pgbouncer.ini, or remove the option.",
    "no such database": "Correct the database in KEYTURN_DATABASE_URL, or name it in pgbouncer.ini.",
    "no such user": "Correct the user in KEYTURN_DATABASE_URL, or name it in the pooler's auth_file.",
    "not allowed in statement pooling mode": "Set pool_mode = transaction, or session.",
}
"""Parts of messages that PgBouncer sends with SQLSTATE 08P01 or, at the handshake, with none. These errors are
lasting; other errors with that code are not."""


def read_outage(error: BaseException, *, place: str, connects: bool = False) -> Outage | None:
    """Return what `error` means for operators, or `None` for a defect. `connects`: it occurred while connecting."""
    if isinstance(error, asyncpg.ConnectionDoesNotExistError):  # made by the driver
        when = "during the handshake. If sslcert is set, it may not trust that: see its log" if connects else ""
        return Outage(f"PostgreSQL at {place} closed the connection {when or 'in the middle of work'}.")
    if isinstance(error, asyncpg.PostgresError):
        return _of_server(error, connects=connects)
    if isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError):
        if isinstance(error, ValueError) or str(error).startswith("the server expects"):
            return None  # a parameter of the wrong type, or a wrong number of them: a defect
        return Outage(f"The connection to PostgreSQL at {place} is not usable: {_one_line(error)}.")
    if isinstance(error, OSError):  # includes TimeoutError
        return _of_network(error, place)
    return None


def describe(error: asyncpg.PostgresError) -> str:
    """Return the server's message with its code and class: `permission denied for table users (42501, ...)`."""
    return f"{_one_line(error)} ({error.sqlstate or 'no SQLSTATE'}, {type(error).__name__})"


def find_server_error(error: BaseException | None) -> asyncpg.PostgresError | None:
    """Return the server's error behind an error that another library raised; `None` if there is none."""
    while error is not None and not isinstance(error, asyncpg.PostgresError):
        error = error.__cause__ or getattr(error, "orig", None)
    return error


def explain(error: asyncpg.PostgresError, advice: str | None = None) -> str:
    """Return the server's message and what to do: `advice`, or the advice for its kind."""
    if advice is None:
        kind = _kind(error, connects=False)
        advice = "" if kind is None else kind.advice
    return f"PostgreSQL says: {describe(error)}. {advice}".rstrip()


def is_of_prepared_statements(error: BaseException) -> bool:
    """Return whether a prepared statement is missing or exists already, which shows that a pooler is in between."""
    return isinstance(error, asyncpg.InvalidSQLStatementNameError | asyncpg.DuplicatePreparedStatementError)


def _of_server(error: asyncpg.PostgresError, *, connects: bool) -> Outage | None:
    kind = _kind(error, connects=connects)
    if kind is None:
        return None
    return Outage(explain(error, kind.advice), kind.is_lasting, kind.is_momentary)


def _kind(error: asyncpg.PostgresError, *, connects: bool) -> _OutageKind | None:
    state = error.sqlstate or ""
    if state.startswith("08") or (connects and not state):
        for part, advice in _POOLER_REFUSES.items():
            if part in str(error):
                return _OutageKind(advice, is_lasting=True)
    if state == "0A000" and not connects and not isinstance(error, asyncpg.InvalidCachedStatementError):
        return None
    tables = (AT_CONNECT, OUTAGES) if connects else (OUTAGES,)
    for length in (5, 2):
        for table in tables:
            if state[:length] in table:
                return table[state[:length]]
    return _OutageKind() if connects else None


_NETWORK: tuple[tuple[type[OSError], str, bool], ...] = (
    (
        ssl.SSLCertVerificationError,
        "The certificate of PostgreSQL at {place} is not trusted: {words} ({name}). Correct sslrootcert or the host.",
        True,
    ),
    (ssl.SSLError, "TLS with PostgreSQL at {place} failed: {words} ({name}).", True),
    (TimeoutError, "PostgreSQL at {place} does not answer in time ({name}).", False),
    (socket.gaierror, "The host of PostgreSQL at {place} is not known: {words} ({name}).", False),
    (
        ConnectionRefusedError,
        "PostgreSQL at {place} refuses connections ({name}). Does it run, and is the port right?",
        False,
    ),
    (
        FileNotFoundError,
        "There is no socket of PostgreSQL at {place} ({name}). Does it run, and is the folder right?",
        False,
    ),
    (OSError, "PostgreSQL at {place} is not reachable: {words} ({name}).", False),
)
"""The sentence for an error of the network, by the first class that matches, and whether it is lasting."""


def _of_network(error: OSError, place: str) -> Outage:
    if "rejected SSL upgrade" in str(error):
        advice = "Enable TLS at the server, or set sslmode=disable if the network is trusted."
        return Outage(f"PostgreSQL at {place} offers no TLS, and sslmode requires it. {advice}", is_lasting=True)
    words = getattr(error, "verify_message", None) or getattr(error, "reason", None) or error.strerror
    sentence, is_lasting = next((text, lasts) for kind, text, lasts in _NETWORK if isinstance(error, kind))
    name = type(error).__name__
    return Outage(sentence.format(place=place, name=name, words=words or _one_line(error)), is_lasting)


def _one_line(error: BaseException) -> str:
    return " ".join((str(error).splitlines() or ["no message"])[0].split()).rstrip(".")
