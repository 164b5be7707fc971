"""`KEYTURN_SMTP_URL` and `KEYTURN_MAIL_FROM`: the server that takes mail, and its sender.

`smtp://user:password@host:587` needs STARTTLS (RFC 3207), `smtps://` begins with TLS (RFC 8314 section 3.3). Every
mistake is a `ValueError` whose text has no credential.
"""

import ipaddress
import re
from dataclasses import dataclass, field
from email.headerregistry import Address
from urllib.parse import unquote_to_bytes

from service.host_names import read_host

_SCHEMES = {"smtp": (False, 587), "smtps": (True, 465)}
"""Each scheme: whether the connection begins with TLS, and the port (RFC 6409 section 3.1, RFC 8314 section 7.3)."""

_FIXED = {
    "timeout": "the service waits 10 s for each message",
    "starttls": "smtp:// always needs STARTTLS, except without a user name to a server on loopback",
    "tls": "the scheme decides it: write smtps:// for TLS from the first byte",
    "ssl": "the scheme decides it: write smtps:// for TLS from the first byte",
    "verify": "the certificate is always verified. SSL_CERT_FILE names the authorities",
    "auth": "the service tries the methods that it and the server support",
    "from": "KEYTURN_MAIL_FROM has the sender",
}
"""Options of other clients that cannot be set, each with the reason."""

_PLAUSIBLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,40}")
_SENDER = re.compile(
    r"(?P<local>[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*)@"
    r"(?P<domain>[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*)"
)
MAX_NAME_LENGTH = 64
"""Characters of the name in `KEYTURN_MAIL_FROM`."""


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """The server that takes the mail, and how to connect to it."""

    host: str
    port: int
    begins_with_tls: bool
    """Otherwise the connection needs STARTTLS, except without a user name to a server on loopback."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def is_on_loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower().rstrip(".") == "localhost"


def read_smtp_url(url: str) -> SmtpServer:
    """Read `KEYTURN_SMTP_URL`. Raises `ValueError` with a text that names the mistake and no secret."""
    scheme, slashes, rest = url.partition("://")
    if not slashes or scheme.lower() not in _SCHEMES:
        raise _refusal("must begin with smtp:// or smtps://, as in smtp://user:password@mail.example.com:587")
    begins_with_tls, default_port = _SCHEMES[scheme.lower()]
    if re.search(r"[\x00-\x20\x7f]", rest):
        raise _refusal("contains white space or a control character: percent-encode it in a password, or remove it")
    end = re.search(r"[/?#]", rest)
    authority, tail = (rest, "") if end is None else (rest[: end.start()], rest[end.start() :])
    if "#" in tail or "@" in tail:
        raise _refusal(
            "has a # or an @ after the host: in a user name or a password write %23 for #, %40 for @, %2F for / and "
            "%3F for ?"
        )
    path, _, query = tail.partition("?")
    if query:
        _refuse_option(query.partition("&")[0].partition("=")[0])
    if path not in {"", "/"}:
        raise _refusal("has a path after the host: remove it")
    user_part, at, place = authority.rpartition("@")
    user, _, password = user_part.partition(":")
    username, password = _decode(user), _decode(password)
    if at and not (username and password):
        raise _refusal("needs both a user name and a password before the @, or neither")
    try:
        host, port = read_host(
            place,
            several_colons="write an IPv6 address in brackets, as in smtp://[::1]:587",
            port_example="smtp://user:password@host:587",
        )
    except ValueError as fault:
        raise _refusal(str(fault)) from None
    return SmtpServer(host, port or default_port, begins_with_tls, username or None, password or None)


def read_sender(text: str) -> Address:
    """Read `KEYTURN_MAIL_FROM`: `name@example.com`, or `Name <name@example.com>`. Raises `ValueError`."""
    text = text.strip()
    match = re.fullmatch(r"(?:(?P<name>[^<>]*?)\s*<(?P<named>[^<>\s]+)>|(?P<bare>[^<>\s]+))", text)
    address = None if match is None else _SENDER.fullmatch(match["named"] or match["bare"])
    if match is None or address is None or len(address["local"]) > 64:
        raise ValueError("write an address like noreply@example.com, or a name too: Example <noreply@example.com>")
    name = (match["name"] or "").strip()
    if len(name) > MAX_NAME_LENGTH or not name.isprintable() or '"' in name or "\\" in name:
        raise ValueError(
            f"its name must have at most {MAX_NAME_LENGTH} printable characters, without quotation marks"
        )
    return Address(name, address["local"], address["domain"])


def _refusal(what: str) -> ValueError:
    return ValueError(f"KEYTURN_SMTP_URL {what}")


def _refuse_option(name: str) -> None:
    """Raise the error for an option. It is not quoted if it may be the rest of a password with a ? in it."""
    if name.lower() in _FIXED:
        raise _refusal(f"has the option {name}, which cannot be set: {_FIXED[name.lower()]}; remove it")
    option = f"the option {name}" if _PLAUSIBLE_NAME.fullmatch(name) else "an option whose name is not a word"
    raise _refusal(f"has {option}, and there are no options: remove it")


def _decode(text: str) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise _refusal("has a % without two hexadecimal digits after it. Write a % in a password as %25")
    try:
        decoded = unquote_to_bytes(text).decode()
    except UnicodeError:
        raise _refusal("is not UTF-8 once its percent-encoding is undone") from None
    if re.search(r"[\x00\r\n]", decoded):
        raise _refusal("has a line break or a null character in its user name or password: no server accepts it")
    return decoded
