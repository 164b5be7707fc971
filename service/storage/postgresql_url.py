"""Read `KEYTURN_DATABASE_URL`, a connection URI as libpq defines it (PostgreSQL 15, section 34.1.1.2).

Every option that libpq knows is honoured, ignored because it has no effect with this driver, or refused by name. The
URL is the only source: `PG...` variables, `~/.pgpass` and `~/.postgresql` are not read, because a service that works
in one shell and not in another cannot be operated. No error quotes the URL, which holds a password.
"""

import difflib
import os
import pwd
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote

from service.errors import ConfigurationError
from service.host_names import host_fault, socket_fault
from service.storage.postgresql_tls import MODES, Tls, check_file

SETTING = "KEYTURN_DATABASE_URL"
DEFAULT_PORT = 5432
DEFAULT_HOSTS = ("/run/postgresql", "/var/run/postgresql", "/tmp", "localhost")  # noqa: S108 -- libpq's socket folders
MAX_CONNECT_TIMEOUT_SECONDS = 60

_DROPPED = {
    "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout", "sslcompression",
    "krbsrvname", "gsslib", "gssdelegation", "client_encoding",
}  # fmt: skip
"""Options that have no effect. Keyturn has its own timeout for a silent connection, and does not support GSSAPI: the
library that the driver needs for it is not installed. The driver has no compression. It always uses UTF-8: another
`client_encoding` is refused."""

_ONLY = {
    "channel_binding": ({"disable", "prefer"}, "the driver has no channel binding: use sslmode=verify-full instead"),
    "gssencmode": ({"disable", "prefer"}, "the driver has no GSSAPI encryption: use sslmode=verify-full instead"),
    "sslsni": ({"1"}, "the driver always sends the host's name: remove it"),
    "sslcertmode": ({"allow"}, "leave sslcert out to send no certificate, and remove it"),
    "replication": ({"false", "off", "no", "0"}, "Keyturn needs an ordinary connection: remove it"),
    "target_session_attrs": ({"any", "read-write", "primary"}, "Keyturn writes: use read-write, primary or any"),
    "load_balance_hosts": ({"disable", "random"}, "use random or disable"),
    "sslnegotiation": ({"postgres", "direct"}, "use postgres or direct"),
    "sslmode": (set(MODES), f"use one of {', '.join(MODES)}"),
}
"""Options of which only these values are accepted, and the sentence for any other value."""

_REFUSED = {
    "service": "write the host, the user and the database of the service file into the URL",
    "servicefile": "write the host, the user and the database of the service file into the URL",
    "requirepeer": "the driver cannot check the owner of a socket: remove it, and protect the socket's folder",
    "require_auth": "the driver cannot require a method: remove it, and require scram-sha-256 in pg_hba.conf",
    "sslkeylogfile": "it would write the keys of the connection to a file: remove it",
}
_POOL = "each worker keeps at most 10 connections: remove it"
_SCHEMA = "write options=-csearch_path%3DNAME instead"
_STATEMENTS = (
    "remove it: Keyturn recognises a pooler, and KEYTURN_DATABASE_PREPARED_STATEMENTS=off sets it explicitly"
)
_TLS = "write sslmode=require or sslmode=verify-full instead"
_OF_OTHER_CLIENTS = {
    "pgbouncer": _STATEMENTS,
    "statement_cache_size": _STATEMENTS,
    "prepared_statement_cache_size": _STATEMENTS,
    "prepared_statements": _STATEMENTS,
    "preparethreshold": _STATEMENTS,
    "schema": _SCHEMA,
    "currentschema": _SCHEMA,
    "connection_limit": _POOL,
    "pool": _POOL,
    "pool_size": _POOL,
    "max_overflow": _POOL,
    "max_connections": _POOL,
    "pool_timeout": "a request waits 0.8 s for a connection: remove it",
    "socket_timeout": "a silent database is given up after 0.8 s: remove it",
    "command_timeout": "a silent database is given up after 0.8 s: remove it",
    "timeout": "write connect_timeout instead",
    "logintimeout": "write connect_timeout instead",
    "applicationname": "write application_name instead",
    "ssl": _TLS,
    "sslaccept": _TLS,
    "tls": _TLS,
}
"""Options of Prisma, SQLAlchemy, Rails, JDBC and node-postgres, in lower case, and what to write instead."""

_SERVER_SETTINGS = {
    "search_path", "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout",
    "timezone", "role", "options",
}  # fmt: skip
_HONOURED = {
    "host", "hostaddr", "port", "user", "password", "dbname", "database", "passfile", "sslrootcert", "sslcert",
    "sslkey", "sslpassword", "sslcrl", "sslcrldir", "ssl_min_protocol_version", "ssl_max_protocol_version",
    "application_name", "fallback_application_name", "connect_timeout",
}  # fmt: skip
_PASSWORDS = {"password", "sslpassword"}
_KNOWN = _HONOURED | _SERVER_SETTINGS | _DROPPED | _ONLY.keys() | _REFUSED.keys()

_NOT_READ = {
    "PGHOST": "host",
    "PGPORT": "port",
    "PGUSER": "user",
    "PGPASSWORD": "password",
    "PGPASSFILE": "password",
    "PGDATABASE": "dbname",
    "PGSSLMODE": "sslmode",
    "PGSSLROOTCERT": "sslrootcert",
    "PGSSLCERT": "sslcert",
    "PGSSLKEY": "sslkey",
    "PGSSLCRL": "sslcrl",
    "PGTARGETSESSIONATTRS": "target_session_attrs",
}
"""Variables of libpq, and the equivalent option of the URL."""


@dataclass(frozen=True, slots=True)
class Target:
    """The content of the URL: where the database is, which user connects, and how the connection is protected."""

    hosts: tuple[tuple[str, int], ...]
    user: str
    password: str = field(repr=False)
    database: str
    tls: Tls
    passfile: Path | None = None
    server_settings: Mapping[str, str] = field(default_factory=dict)
    target_session_attrs: str = "any"
    shuffles_hosts: bool = False
    connect_timeout: int | None = None

    @property
    def place(self) -> str:
        """The hosts, for messages: `db.example.com:5432`."""
        return ", ".join(host if host.startswith("/") else _joined(host, port) for host, port in self.hosts)


def read_postgresql_url(url: str, environment: Mapping[str, str] | None = None) -> Target:
    """Read `url`. Raises `ConfigurationError`, which names the option, file or variable at fault."""
    environment = os.environ if environment is None else environment
    authority, path, query = _split(url)
    options = _read_options(query)
    credentials, at, host_list = authority.rpartition("@")
    user_name, _, password = credentials.partition(":")
    given = {
        "host": host_list,
        "user": _decode(user_name) if at else "",
        "password": _decode(password) if at else "",
        "dbname": _decode(path.removeprefix("/")),
    }
    for option, value in given.items():
        if value:
            options[option] = value  # like the driver: the first part of the URL has precedence over its query
    options.setdefault("dbname", options.pop("database", ""))
    if not options["dbname"]:
        del options["dbname"]
    hosts, has_port = _read_hosts(options)
    _refuse_variables(options, environment, has_port=has_port)
    user = options.get("user") or _system_user()
    return Target(
        hosts=hosts,
        user=user,
        password=options.get("password", ""),
        database=options.get("dbname", user),
        tls=_read_tls(options),
        passfile=_read_passfile(options),
        server_settings={
            "application_name": options.get("application_name")
            or options.get("fallback_application_name", "keyturn"),
            **{option: value for option, value in options.items() if option in _SERVER_SETTINGS},
        },
        target_session_attrs=options.get("target_session_attrs", "any"),
        shuffles_hosts=options.get("load_balance_hosts") == "random",
        connect_timeout=_read_connect_timeout(options),
    )


def _refuse(sentence: str) -> NoReturn:
    raise ConfigurationError(f"{SETTING}: {sentence}.")


def _split(url: str) -> tuple[str, str, str]:
    """Split the URL into authority, path and query. `urlsplit` would misread a `#` or a `?` in a password."""
    url = url.strip()
    scheme, _, rest = url.partition("://")
    if scheme not in {"postgresql", "postgres"}:
        _refuse("it must begin with postgresql://")
    if re.search(r"[\s\x00-\x1f\x7f]", rest):
        _refuse("it contains a space or a line break: write a space in a password as %20")
    if "#" in rest:
        _refuse("it contains a #: write that character in a password as %23")
    authority, question, query = rest.partition("?")
    authority, slash, path = authority.partition("/")
    if "@" in path or "@" in query or "/" in path:
        _refuse(
            "it has a / or a ? before the @ that ends the password, or an @ or a / after the host: write such "
            "characters of a value as %2F, %3F and %40"
        )
    return authority, slash + path, query if question else ""


def _decode(text: str) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        _refuse("it has a % without two hexadecimal digits after it: write a % in a password as %25")
    try:
        value = unquote(text, errors="strict")
    except UnicodeDecodeError:
        _refuse("a percent-encoded value in it is not UTF-8")
    if "\x00" in value:
        _refuse("a value in it has the character %00, which PostgreSQL does not accept")
    return value


def _read_options(query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    after_password: set[str] = set()
    """The options that stand after a password. If the password has an & in it, they may be the rest of it."""
    follows_password = False
    for position, part in enumerate(filter(None, query.split("&")), 1):
        raw, equals, value = part.partition("=")
        name = _decode(raw)
        if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}", name) is None or not equals:
            _refuse(
                "its query is not of the form ?option=value&option=value: write a ? or & in a password as %3F, %26"
            )
        _check_name(name, position, follows_password=follows_password)
        if value:  # libpq treats an empty value as absent
            options[name] = _decode(value)
        if follows_password:
            after_password.add(name)
        follows_password = follows_password or name in _PASSWORDS
    for name, (values, advice) in _ONLY.items():
        if name in options and options[name] not in values:
            shown = "this" if name in after_password else _shown(options[name])
            _refuse(f"{name} cannot be {shown}: {advice}")
    encoding = options.get("client_encoding", "utf8").lower().replace("-", "")
    if encoding not in {"utf8", "auto", "unicode"}:
        _refuse("client_encoding must be UTF8, because the driver uses no other encoding: remove it")
    return options


def _check_name(name: str, position: int, *, follows_password: bool) -> None:
    """Refuse an unknown option. It is not named if it may be the rest of a password with an & in it."""
    if name in _REFUSED:
        _refuse(f"the option {name} is not supported: {_REFUSED[name]}")
    if name in _KNOWN:
        return
    advice = _OF_OTHER_CLIENTS.get(name.lower())
    if advice is not None:
        shown = name.lower() if follows_password else name
        _refuse(f"the option {shown} is another client's: {advice}")
    if follows_password:
        _refuse(
            f"the option at position {position} of its query is not known: if it belongs to the password before it, "
            "write & in that password as %26; otherwise remove it"
        )
    close = difflib.get_close_matches(name, _KNOWN, 1)
    hint = f"did you mean {close[0]}? If not, " if close else ""
    _refuse(f"the option {name} is not known: {hint}remove it, or write a server's setting as options=-cNAME%3DVALUE")


def _shown(value: str) -> str:
    """Return a value as an error may show it. If it is not a plain word, it could be part of a password."""
    return value if re.fullmatch(r"[A-Za-z0-9_-]{1,24}", value) else "this"


def _read_hosts(options: Mapping[str, str]) -> tuple[tuple[tuple[str, int], ...], bool]:
    """Return the hosts with their ports, and whether the URL sets a port."""
    listed = options.get("host", "")
    if options.get("hostaddr"):
        if listed:
            _refuse("the option hostaddr beside a host is not supported: remove one of the two")
        listed = ",".join(f"[{address}]" if ":" in address else address for address in options["hostaddr"].split(","))
    entries = (
        [_read_host(entry) for entry in listed.split(",")] if listed else [(host, None) for host in DEFAULT_HOSTS]
    )
    ports = [_read_port(port) for port in options["port"].split(",")] if options.get("port") else []
    if len(ports) not in {0, 1, len(entries)}:
        _refuse(f"it has {len(entries)} hosts and {len(ports)} ports: give one port, or one for each host")
    if len(ports) == 1:
        ports *= len(entries)
    hosts = tuple((host, own or (ports[n] if ports else DEFAULT_PORT)) for n, (host, own) in enumerate(entries))
    for host, port in hosts:
        is_folder, is_ipv6 = host.startswith("/"), ":" in host
        fault = socket_fault(f"{host}/.s.PGSQL.{port}") if is_folder else None if is_ipv6 else host_fault(host)
        if fault is not None:
            _refuse(f"it {fault}")
    return hosts, bool(ports) or any(own for _host, own in entries)


def _read_host(entry: str) -> tuple[str, int | None]:
    """Read `host`, `host:port`, `[IPv6]:port`, or the folder of a socket."""
    if "%" in entry and not entry.startswith("["):
        entry = _decode(entry)
    if entry.startswith("/"):
        folder, colon, port = entry.rpartition(":")
        return (folder, _read_port(port)) if colon and port.isdigit() else (entry, None)
    match = re.fullmatch(r"\[([0-9A-Fa-f:.]+(?:%[0-9A-Za-z.%_-]+)?)\](?::(.*))?", entry)
    if match is None:
        if entry.count(":") > 1:
            _refuse("an IPv6 address in it needs brackets: [2001:db8::7]:5432")
        match = re.fullmatch(r"([^:\[\]/@]+)(?::(.*))?", entry)
    if match is None:
        _refuse("its host cannot be read: write postgresql://user:password@host:5432/name")
    port = match[2]
    return _decode(match[1]), _read_port(_decode(port)) if port else None


def _read_port(text: str) -> int:
    if re.fullmatch(r"[0-9]{1,5}", text) is None or not 0 < int(text) < 65536:
        _refuse(
            "its port is not a number from 1 to 65535: write postgresql://user:password@host:5432/name, and the "
            "characters / ? # [ ] @ in a password as %2F %3F %23 %5B %5D %40"
        )
    return int(text)


def _refuse_variables(options: Mapping[str, str], environment: Mapping[str, str], *, has_port: bool) -> None:
    """Refuse variables that other clients obey: ignoring one silently could mean another server, or no TLS."""
    given = {option for option, value in options.items() if value} | ({"port"} if has_port else set())
    if "passfile" in given:
        given.add("password")
        if environment.get("PGPASSWORD"):  # the driver would prefer it to the file
            given.discard("password")
    if all(host.startswith("/") for host in options.get("host", "x").split(",")):
        given |= {"sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl"}  # no TLS on a socket
    for variable, option in _NOT_READ.items():
        if environment.get(variable) and option not in given:
            _refuse(
                f"{variable} is set in the environment, and Keyturn reads the URL only. Write it into the URL "
                f"({option}), or unset {variable}"
            )


def _system_user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        _refuse("it names no user, and this process's user has no name: write postgresql://user:password@host/name")


def _read_tls(options: Mapping[str, str]) -> Tls:
    root = options.get("sslrootcert")
    mode = options.get("sslmode") or ("verify-full" if root == "system" else "prefer")
    if root == "system" and mode != "verify-full":
        _refuse(
            f"sslrootcert=system needs sslmode=verify-full, not {mode}: any site can get a certificate that "
            "the system trusts"
        )
    if mode in {"verify-ca", "verify-full"} and root is None:
        _refuse(
            f"sslmode={mode} needs sslrootcert: the path of the authority's certificate, or system for the "
            "authorities that this machine trusts"
        )
    is_direct = options.get("sslnegotiation") == "direct"
    if is_direct and mode in {"disable", "allow", "prefer"}:
        _refuse("sslnegotiation=direct needs sslmode=require, verify-ca or verify-full")
    if options.get("sslkey") and not options.get("sslcert"):
        _refuse("it has sslkey without sslcert: name the certificate of that key, too")
    tls = Tls(
        mode=mode,
        root=root,
        certificate=options.get("sslcert"),
        key=options.get("sslkey"),
        key_password=options.get("sslpassword", ""),
        revoked=options.get("sslcrl"),
        revoked_folder=options.get("sslcrldir"),
        oldest=options.get("ssl_min_protocol_version", "TLSv1.2"),
        newest=options.get("ssl_max_protocol_version"),
        is_direct=is_direct,
    )
    tls.make_context()  # report a missing file at the start, not at the first login
    return tls


def _read_passfile(options: Mapping[str, str]) -> Path | None:
    if not options.get("passfile") or options.get("password"):
        return None
    check_file("passfile", options["passfile"])
    if Path(options["passfile"]).stat().st_mode & 0o077:
        _refuse(f"passfile: users other than its owner may read {options['passfile']}. Run: chmod 600")
    return Path(options["passfile"])


def _read_connect_timeout(options: Mapping[str, str]) -> int | None:
    text = options.get("connect_timeout")
    if text is None:
        return None
    if re.fullmatch(r"-?[0-9]{1,9}", text.strip()) is None:
        _refuse("connect_timeout is not a whole number of seconds")
    seconds = int(text)
    return None if seconds <= 0 else min(max(seconds, 2), MAX_CONNECT_TIMEOUT_SECONDS)  # libpq's minimum is 2


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
