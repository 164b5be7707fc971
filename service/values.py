"""Parse the text of settings: white space around it, rates, durations, lists, URLs, networks, roles.

Each parser raises `ValueError` with a sentence on how to write the value. The sentence omits the value if that can
contain a secret. `environment.read_settings` adds the setting's name.
"""

import difflib
import ipaddress
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator

from service.durations import UNITS, as_text, read_seconds
from service.host_names import host_fault, is_host_name
from service.language_tags import is_language_tag
from service.roles import EVERYONE, check_roles
from service.smtp_url import read_sender
from service.static_claims import check_name
from service.typed_text import trim

_MEANS_ALL = {
    "*", "1", "all", "always", "any", "anybody", "anyone", "enable", "enabled", "enforce", "enforced", "every",
    "everybody", "force", "forced", "mandatory", "must", "on", "require", "required", "t", "true", "y", "yes",
}  # fmt: skip
_MEANS_NONE = {
    "-", "0", "disable", "disabled", "empty", "f", "false", "n", "never", "nil", "no", "nobody", "none", "noone",
    "not-required", "null", "optional", "undefined", "unset",
}  # fmt: skip
"""Words that mean all or none in other programs. In a list of names they would count as names that match nothing."""
_INVISIBLE = {"Cc", "Cf", "Zl", "Zp", "Cs"}
"""Unicode categories of invisible characters: control and format characters, separators, surrogates."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_IPV4_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")

MAX_DELAY_SECONDS = 999999 * 86400
MAX_AUDIENCE_LENGTH = 255
MAX_SERVICE_NAME_LENGTH = 64
"""The maximum length of the name that authenticator apps show; the QR code contains it, too."""

_HTTP_URL = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?"
    r"(?P<query>\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?"
)


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate: `count` attempts in `window` seconds. An operator writes it as `5/15m`."""

    count: int
    window: int


def clean(text: str) -> str:
    """Return a text without the white space and invisible characters around it.

    Raises `ValueError` if it is then empty, or for what an editor, a copied web page or an env file added by mistake:
    an invisible character within the text (white space may separate the entries of a list), or quotation marks
    around it.
    """
    text = trim(text)
    if not text:
        raise ValueError("it has white space only. Unset it, or write a value")
    for character in text:
        if unicodedata.category(character) in _INVISIBLE and character not in "\t\r\n":
            raise ValueError(f"it contains the invisible character U+{ord(character):04X}. Type the value again")
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        raise ValueError("it has quotation marks around it, which the env files of containers keep. Remove them")
    return text


def check_http_url(text: str, *, may_have_query: bool = False) -> str:
    """Raise `ValueError` unless `text` is an absolute http or https URL without user, fragment and white space.

    A query is refused too, unless `may_have_query` is true.
    """
    expected = "an http(s) URL like https://auth.example.com"
    match = _HTTP_URL.fullmatch(text)
    if match is None:
        if "@" in text.partition("://")[2].partition("/")[0]:
            raise ValueError("it has a user or a password in it. Write the URL without them")
        if not text.isascii():
            raise ValueError(
                "it has a character that is not ASCII. Write a host name in its xn-- form, and such a character of a "
                "path as %XX"
            )
        if re.search(r"\s", text):
            raise ValueError(f"it has white space in it. It must be {expected}")
        raise ValueError(f"it must be {expected}")
    if match["port"] is not None and not 1 <= int(match["port"]) <= 65535:
        raise ValueError("it has a port that is not a number from 1 to 65535")
    host, path = match["host"], match["path"] or ""
    if not host.startswith("[") and (fault := host_fault(host)) is not None:
        raise ValueError(f"it {fault}")
    if re.search(r"%(?![0-9A-Fa-f]{2})", path + (match["query"] or "")):
        raise ValueError("it has a % without two hexadecimal digits after it. Write a % as %25")
    if {".", ".."} & {re.sub("%2e", ".", segment, flags=re.IGNORECASE) for segment in path.split("/")}:
        raise ValueError("it has . or .. as a segment of its path, which clients resolve. Write the path without it")
    if match["query"] and not may_have_query:
        raise ValueError("it must have no query, the part from ? on")
    if host.startswith("["):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            raise ValueError("it has brackets around something that is not an IPv6 address") from None
    return text


def read_network(text: str) -> Network:
    """Read an address or a network; bits of the host are ignored. Raises `ValueError`.

    A network within `::ffff:0:0/96`, the IPv4-mapped addresses, is returned as the IPv4 network: callers' addresses
    are compared in that form. A wider network, such as `::/0`, stays IPv6 and contains no IPv4 address.
    """
    network = ipaddress.ip_network(text, strict=False)
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_IPV4_MAPPED):
        return ipaddress.IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
    return network


def _network(word: str) -> str:
    try:
        network = read_network(word)
    except ValueError:
        raise ValueError(
            f"{word!r} is neither an address nor a network. Write addresses like 10.1.2.3 or networks like 10.0.0.0/8"
        ) from None
    return str(network) if ":" in word and network.version == 4 else word


def _networks(words: tuple[str, ...]) -> tuple[str, ...]:
    if any(word.lower() in _MEANS_NONE | {"off"} for word in words):
        raise ValueError("unset it to trust no proxy, or write addresses like 10.1.2.3 or networks like 10.0.0.0/8")
    return tuple(map(_network, words))


def _folder(path: Path) -> Path:
    if str(path).startswith("~"):
        raise ValueError("it begins with ~, which only a shell replaces. Write the whole path")
    return path


def _leaked_passwords(value: object) -> object:
    """Parse where the list of leaked passwords is: `off`, a URL (its final slash is removed), or a file's path."""
    if not isinstance(value, str):
        return value
    if value.lower() == "off":
        return None
    if value.lower() in _MEANS_ALL | _MEANS_NONE:
        raise ValueError("write off, the URL of a range service, or the path of a list")
    if "://" in value:
        return check_http_url(value).rstrip("/")
    return _folder(Path(value))


def _audience(text: str) -> str:
    if re.search(r"[\s,]", text):
        raise ValueError("it must be one name without spaces and commas: a token has one audience")
    if len(text) > MAX_AUDIENCE_LENGTH:
        raise ValueError(f"it must have at most {MAX_AUDIENCE_LENGTH} characters")
    return text


def _service_name(text: str) -> str:
    text = text.strip()
    if not text or ":" in text or len(text) > MAX_SERVICE_NAME_LENGTH or re.search(r"[\t\r\n]", text):
        raise ValueError(f"it must have 1 to {MAX_SERVICE_NAME_LENGTH} characters, and no colon, tab or line end")
    return text


def _mail_sender(text: str) -> str:
    read_sender(text)
    return text


def _language_tag(text: str) -> str:
    if not is_language_tag(text):
        raise ValueError("it must be a language tag like en, de or pt-BR (RFC 5646)")
    return text


def _rate(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value.strip().lower() == "off":
        return None
    match = re.fullmatch(r"\s*([1-9][0-9]{0,8})\s*/\s*([1-9][0-9]{0,5})\s*([smhd])\s*", value)
    if match is None:
        raise ValueError("write it like 5/15m (count, slash, number and one of s m h d), or off")
    return Rate(int(match[1]), int(match[2]) * UNITS[match[3]])


def _duration(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value.strip().lower() == "off":
        return None
    seconds = read_seconds(value, plain="s", like="1h")
    return timedelta(seconds=max(-1, min(seconds, MAX_DELAY_SECONDS + 1)))  # the setting has its own bounds


def _delay(value: object) -> object:
    """Parse a delay that protects an account. It needs a unit: `72` could mean hours, and be read as seconds."""
    if not isinstance(value, str):
        return value
    if value.strip().lower() == "off":
        return None
    seconds = read_seconds(value, plain=None, like="72h or off")
    if not 1 <= seconds <= MAX_DELAY_SECONDS:
        raise ValueError(f"it must be 1s to {as_text(MAX_DELAY_SECONDS)}. Write it like 72h or off")
    return timedelta(seconds=seconds)


def _word_list(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(word for word in re.split(r"[,\s]+", value) if word)


def _mfa_requirement(value: object) -> object:
    """Parse who must have a second factor: `off` (nobody), `everyone`, or a list of roles.

    A word like `true` is refused and not read as a role: as the name of a role that no user has, it would demand a
    second factor of nobody.
    """
    if not isinstance(value, str):
        return value
    words = tuple(dict.fromkeys(re.split(r"[,\s]+", value.strip())))
    lowered = {word.lower() for word in words}
    for meant, others in ((EVERYONE, _MEANS_ALL), ("off", _MEANS_NONE)):
        misread = min(lowered & others, default=None) or next(_misspellings(meant, lowered), None)
        if misread is not None:
            raise ValueError(
                f"write {meant} in place of {misread}, which is not read as a role. Its values are off, everyone, or "
                "a list of roles"
            )
    if {"off", EVERYONE} & lowered and len(words) > 1:
        raise ValueError("write off, everyone, or a list of roles")
    if lowered == {"off"}:
        return ()
    return (EVERYONE,) if lowered == {EVERYONE} else check_roles(words)


def _misspellings(meant: str, words: Iterable[str]) -> Iterator[str]:
    """Yield the words that are almost `everyone`, as `evryone`; `off` is too short for a comparison."""
    is_long = len(meant) > 4
    return (word for word in words if is_long and word != meant and difflib.get_close_matches(word, [meant], 1, 0.85))


def normalise_origin(text: str) -> str:
    """Return an origin as browsers send it (RFC 6454 section 6.2): lower case, no default port, no final slash."""
    if "@" in text:  # the error does not quote it: it may contain a password
        raise ValueError("an origin has no user and no password: write it like https://app.example.com")
    like = f"write {text!r} like https://app.example.com"
    if "*" in text:
        raise ValueError(f"{like}: wildcards are not supported, name each origin")
    scheme, separator, rest = text.partition("://")
    if not separator or re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme) is None:
        raise ValueError(f"{like}, with its scheme")
    host, _, path = rest.partition("/")
    if path or "?" in rest or "#" in rest:
        raise ValueError(f"{like}: an origin has no path, query or fragment")
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(?::([0-9]{1,5}))?", host)
    if match is None or (match[2] is not None and not 1 <= int(match[2]) <= 65535):
        raise ValueError(f"{like}: a host, and a port from 1 to 65535 if it is not the usual one")
    scheme, name, port = scheme.lower(), _normalise_host(match[1], like), match[2]
    is_default = port is None or int(port) == {"http": 80, "https": 443}.get(scheme)
    return f"{scheme}://{name}" + ("" if is_default or port is None else f":{int(port)}")


def origin_of(url: str) -> str:
    """Return the origin of a URL that `check_http_url` accepts."""
    scheme, _, rest = url.partition("://")
    return normalise_origin(f"{scheme}://{re.split('[/?]', rest, maxsplit=1)[0]}")


def _normalise_host(name: str, like: str) -> str:
    try:
        if name.startswith("["):
            return f"[{ipaddress.IPv6Address(name[1:-1])}]"
    except ValueError:
        raise ValueError(f"{like}: this is not an IPv6 address") from None
    if not name.isascii():
        # Python encodes names by IDNA 2003 and browsers by UTS 46: the two differ for some names, as that of a host
        # with the letter U+00DF, and the origin would be that of another site.
        raise ValueError(f"{like}: it has a character that is not ASCII. Write the host name in its xn-- form")
    if re.fullmatch(r"[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?\.?", name.lower()) is None or not is_host_name(name):
        raise ValueError(f"{like}: this is not a host name")
    return name.lower()


def _origins(value: object) -> object:
    words = _word_list(value)
    if not isinstance(words, tuple | list):
        return words
    return tuple(dict.fromkeys(normalise_origin(trim(word)) if isinstance(word, str) else word for word in words))


def _claim_names(value: object) -> object:
    words = _word_list(value)
    for word in words if isinstance(words, tuple | list) else ():
        if not isinstance(word, str) or word.lower() in _MEANS_ALL | _MEANS_NONE | {"off"}:
            raise ValueError("write the names of static claims, like tenant, with commas between them, or unset it")
        check_name(word)
    return tuple(dict.fromkeys(words)) if isinstance(words, tuple | list) else words


def _header_names(value: object) -> object:
    words = _word_list(value)
    for word in words if isinstance(words, tuple | list) else ():
        if not isinstance(word, str) or re.fullmatch(r"[!#$%&'+.^_`|~0-9A-Za-z-]{1,64}", word) is None:
            raise ValueError("write names of request headers, like X-Tenant-Id, with commas between them")
        if word.lower() in _MEANS_ALL | _MEANS_NONE | {"off"}:
            raise ValueError(
                f"{word} is not the name of a request header. Write names like X-Tenant-Id, or unset it to allow "
                "only the usual ones"
            )
    return tuple(word.lower() for word in words) if isinstance(words, tuple | list) else words


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _host(value: object) -> object:
    """Parse an address or a name to listen on. Brackets around an IPv6 address, as in a URL, are removed."""
    if not isinstance(value, str):
        return value
    host = trim(value).lower()
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        if not is_host_name(host):
            raise ValueError(
                "write an address or a name of this machine without its port, like 127.0.0.1, or 0.0.0.0 or :: for "
                "all of its addresses"
            ) from None
    return host


def is_loopback(host: str) -> bool:
    """Return whether only this machine can connect to `host`: 127.0.0.0/8, `::1` or `localhost`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


Host = Annotated[str, BeforeValidator(_host)]
Limit = Annotated[Rate | None, BeforeValidator(_rate)]
Duration = Annotated[timedelta | None, BeforeValidator(_duration)]
Delay = Annotated[timedelta | None, BeforeValidator(_delay)]
WordList = Annotated[tuple[str, ...], BeforeValidator(_word_list)]
Origins = Annotated[tuple[str, ...], BeforeValidator(_origins)]
ClaimNames = Annotated[tuple[str, ...], BeforeValidator(_claim_names)]
HeaderNames = Annotated[tuple[str, ...], BeforeValidator(_header_names)]
MfaRequirement = Annotated[tuple[str, ...], BeforeValidator(_mfa_requirement)]
Networks = Annotated[WordList, AfterValidator(_networks)]
Folder = Annotated[Path, AfterValidator(_folder)]
LeakedPasswords = Annotated[str | Path | None, BeforeValidator(_leaked_passwords)]
Audience = Annotated[str, AfterValidator(_audience)]
MailSender = Annotated[str, AfterValidator(_mail_sender)]
LanguageTag = Annotated[str, AfterValidator(_language_tag)]
ServiceName = Annotated[str, AfterValidator(_service_name)]
ForwardedHeader = Annotated[Literal["x-forwarded-for", "forwarded"], BeforeValidator(_lower)]
"""Header names are case-insensitive (RFC 9110 section 5.1)."""
