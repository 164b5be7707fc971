"""Read `KEYTURN_REDIS_URL` into a value.

Every part that is not understood is refused, and so is an unknown option: if it were dropped silently, the service
would not do what the operator expects. No error repeats a part of the URL that may belong to a password.

This module imports no driver and opens no file; `redis_client` does both.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote_to_bytes

from service.host_names import read_host, socket_fault

Kind = Literal["server", "socket", "sentinel", "cluster"]

_SCHEMES: dict[str, tuple[Kind, bool]] = {
    "redis": ("server", False),
    "rediss": ("server", True),
    "unix": ("socket", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
"""Each scheme's kind, and whether it uses TLS."""

DEFAULT_PORT = 6379
DEFAULT_MASTER = "mymaster"

_CREDENTIALS = ("username", "password")
_SENTINEL_CREDENTIALS = ("sentinel_username", "sentinel_password")
_PASSWORDS = {"password", "sentinel_password"}
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TLS = (*_TLS_FILES, "ssl_cert_reqs", "ssl_check_hostname")
OPTIONS = ("db", "protocol", *_CREDENTIALS, *_SENTINEL_CREDENTIALS, *_TLS)
"""Every option that is understood."""

_DEADLINE = "the service waits 0.2 s for Redis, whatever the URL says"
_REPETITION = "the service repeats no command, because a repeated one would count an attempt twice"
_FIXED = {
    "socket_timeout": _DEADLINE,
    "socket_connect_timeout": _DEADLINE,
    "timeout": _DEADLINE,
    "retry": _REPETITION,
    "retry_on_timeout": _REPETITION,
    "retry_on_error": _REPETITION,
    "max_connections": "a worker has at most 16 connections to a server",
    "decode_responses": "the service decodes answers itself",
    "encoding": "the service decodes answers itself",
    "encoding_errors": "the service decodes answers itself",
    "ssl": "the scheme decides it: write rediss:// for TLS",
    "tls": "the scheme decides it: write rediss:// for TLS",
    "family": "the host decides it: write an IPv6 address in brackets, as in redis://[::1]:6379/0",
}
"""Options of redis-py and of other clients that cannot be set, each with the reason."""

_PLAUSIBLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,40}")
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and a password of Redis; `None` where there is none."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """How the server's certificate is checked, and which certificate the client sends."""

    ca_certs: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    cert_reqs: Literal["none", "optional", "required"] = "required"
    is_hostname_checked: bool = True


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where Redis is and how to connect to it."""

    kind: Kind
    hosts: tuple[tuple[str, int], ...] = ()
    """Host and port of the server, of each Sentinel, or of each known node of a Cluster."""
    path: str = ""
    """The Unix socket."""
    master: str = ""
    """The master's name at the Sentinels."""
    database: int = 0
    credentials: Credentials = Credentials()
    sentinel_credentials: Credentials = Credentials()
    tls: TlsOptions | None = None
    protocol: Literal[2, 3] = 2
    """RESP 2 needs no `HELLO`, which some providers do not support."""


def read_redis_url(url: str) -> RedisAddress:
    """Read `KEYTURN_REDIS_URL`. Raises `ValueError` with a text that names the mistake and no secret."""
    scheme, slashes, rest = url.partition("://")
    if not slashes or scheme.lower() not in _SCHEMES:
        raise _refusal(f"must begin with one of: {', '.join(f'{name}://' for name in _SCHEMES)}")
    kind, has_tls = _SCHEMES[scheme.lower()]
    if re.search(r"[\x00-\x1f\x7f]", rest):
        raise _refusal("contains a control character or a line break: percent-encode it in a password, or remove it")
    end = re.search(r"[/?#]", rest)
    authority, tail = (rest, "") if end is None else (rest[: end.start()], rest[end.start() :])
    if "#" in tail or "@" in tail:
        raise _refusal(
            "has a # or an @ after the host: in a user name, a password or an option write "
            "%23 for #, %40 for @, %2F for / and %3F for ?"
        )
    user_part, at, hosts = authority.rpartition("@")
    path, _, query = tail.partition("?")
    options = _read_options(query, kind, has_tls=has_tls)
    credentials = _read_credentials(user_part, options)
    if at and set(_CREDENTIALS) & set(options):
        raise _refusal("has a user name or a password before the host and in an option: keep one of them")
    database = _read_number("db", options["db"]) if "db" in options else None
    master, socket_path = "", ""
    if kind == "socket":
        socket_path = _decode(path)
        if hosts or len(socket_path) < 2 or "\0" in socket_path:
            raise _refusal("needs the absolute path of the socket after three slashes, as in unix:///run/redis.sock")
        if (fault := socket_fault(socket_path)) is not None:
            raise _refusal(fault)
    else:
        if kind == "sentinel":
            name, _, path = path.strip("/").partition("/")
            master = _decode(name) or DEFAULT_MASTER
        database = _one_database(_read_database_path(path, kind), database)
    if kind == "cluster" and database:
        raise _refusal(f"asks for database {database}, and a Redis Cluster has only database 0: leave it out")
    return RedisAddress(
        kind=kind,
        hosts=() if kind == "socket" else _read_hosts(hosts, kind),
        path=socket_path,
        master=master,
        database=database or 0,
        credentials=credentials,
        sentinel_credentials=_read_sentinel_credentials(options, credentials, kind),
        tls=_read_tls(options) if has_tls else None,
        protocol=_read_protocol(options),
    )


def _refusal(what: str) -> ValueError:
    return ValueError(f"KEYTURN_REDIS_URL {what}")


def _decode(text: str) -> str:
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeError:
        raise _refusal("is not UTF-8 once its percent-encoding is undone") from None


def _read_options(query: str, kind: Kind, *, has_tls: bool) -> Mapping[str, str]:
    """Return the options of the query. Each must be known, fit the scheme, and occur once."""
    options: dict[str, str] = {}
    for position, pair in enumerate(filter(None, query.split("&")), 1):
        name, value = (_decode(part) for part in pair.partition("=")[::2])  # a + in a password is not a space
        if name not in OPTIONS:
            raise _refusal(_why_unknown(name, position, follows_password=bool(_PASSWORDS & options.keys())))
        if name in options:
            raise _refusal(f"has the option {name} twice: keep one of them")
        if not value and name not in _SENTINEL_CREDENTIALS:
            raise _refusal(f"has the option {name} without a value: give it one, or remove it")
        if name in _TLS and not has_tls:
            raise _refusal(
                f"has the option {name}, which needs TLS: write a scheme with TLS (rediss://, rediss+sentinel:// or "
                "rediss+cluster://), or remove it"
            )
        if name in _SENTINEL_CREDENTIALS and kind != "sentinel":
            raise _refusal(f"has the option {name}, which only a URL of Sentinels may have: remove it")
        options[name] = value
    return options


def _why_unknown(name: str, position: int, *, follows_password: bool) -> str:
    """Say what to do about an unknown option. It is not named if it may be the rest of a password with an & in it."""
    if name in _FIXED:
        return f"has the option {name}, which cannot be set: {_FIXED[name]}; remove it"
    if follows_password:
        return (
            f"has an option at position {position} of its query that is not understood: if it belongs to the "
            "password before it, write & in that password as %26; otherwise remove it"
        )
    option = f"the option {name}" if _PLAUSIBLE_NAME.fullmatch(name) else "an option whose name is not a word"
    return f"has {option}, which is not understood: remove it, or use one of {', '.join(OPTIONS)}"


def _read_credentials(user_part: str, options: Mapping[str, str]) -> Credentials:
    user, _, password = user_part.partition(":")
    username = options.get("username") or _decode(user)
    return Credentials(username or None, options.get("password") or _decode(password) or None)


def _read_sentinel_credentials(options: Mapping[str, str], credentials: Credentials, kind: Kind) -> Credentials:
    """Return the Sentinels' own credentials if the URL has any, even empty ones; otherwise those of the master."""
    if not set(_SENTINEL_CREDENTIALS) & set(options):
        return credentials if kind == "sentinel" else Credentials()
    username, password = (options.get(name) or None for name in _SENTINEL_CREDENTIALS)
    return Credentials(username, password)


def _read_number(name: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise _refusal(f"has the option {name}, which must be a whole number, as in {name}=0")
    return int(text)


def _read_database_path(path: str, kind: Kind) -> int | None:
    text = path.strip("/")
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise _refusal(
            "names the master and then a database that is not a number: write it as in "
            "redis+sentinel://host:26379/mymaster/0"
            if kind == "sentinel"
            else "names a database that is not a number: write it as in redis://host:6379/0"
        )
    return int(text)


def _one_database(path: int | None, option: int | None) -> int | None:
    if path is not None and option is not None and path != option:
        raise _refusal("names one database in its path and another in the option db: keep one of them")
    return path if option is None else option


def _read_hosts(text: str, kind: Kind) -> tuple[tuple[str, int], ...]:
    if kind == "server":
        if "," in text:
            raise _refusal("names several hosts: write redis+sentinel:// or redis+cluster:// for them")
        return (_read_host(text or "localhost", default=DEFAULT_PORT),)
    return tuple(_read_host(host, default=None) for host in text.split(","))


def _read_host(text: str, *, default: int | None) -> tuple[str, int]:
    """Return host and port. Without a default port, both must be given."""
    try:
        host, port = read_host(
            text,
            default="localhost" if default is not None else "",
            several_colons="write an IPv6 address in brackets, as in redis://[::1]:6379/0, and a colon in a user "
            "name or password as %3A",
            port_example="redis://:password@host:6379/0",
        )
    except ValueError as fault:
        raise _refusal(str(fault)) from None
    if port is None:
        if default is None:
            raise _refusal("needs a port after every host, as in redis+sentinel://one:26379,two:26379/mymaster")
        return host, default
    return host, port


def _read_tls(options: Mapping[str, str]) -> TlsOptions:
    reqs = options.get("ssl_cert_reqs", "required")
    if reqs not in {"none", "optional", "required"}:
        raise _refusal("has the option ssl_cert_reqs, which must be none, optional or required")
    check = options.get("ssl_check_hostname", "true").lower()
    if check not in _BOOLEANS:
        raise _refusal("has the option ssl_check_hostname, which must be true or false")
    ca_certs, certfile, keyfile = (options.get(name) for name in _TLS_FILES)
    if keyfile is not None and certfile is None:
        raise _refusal("has the option ssl_keyfile without ssl_certfile: name the certificate of that key")
    return TlsOptions(
        ca_certs=ca_certs,
        certfile=certfile,
        keyfile=keyfile,
        cert_reqs=reqs,  # type: ignore[arg-type]  # it is one of the three
        is_hostname_checked=_BOOLEANS[check] and reqs != "none",
    )


def _read_protocol(options: Mapping[str, str]) -> Literal[2, 3]:
    match options.get("protocol", "2"):
        case "2":
            return 2
        case "3":
            return 3
        case _:
            raise _refusal("has the option protocol, which must be 2 or 3")
