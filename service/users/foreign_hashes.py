"""Password hashes of other systems: which of them are accepted, and how a password is compared with one.

`read` recognises a hash by its text form, such as `$2b$...`, and removes the prefix that a framework may have put
before that form. It refuses a hash that cannot be verified, and names its family. It also refuses a hash whose
comparison would cost too much at a login (law 9: hashing is a bounded resource). An imported account keeps its hash,
marked with `IMPORTED`, until the first login replaces it with a hash of our own.

passlib's SHA crypt and phpass are written in Python. They hold the interpreter lock while they compute, so their
limits are low.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

IMPORTED = "imported:"
"""The beginning of a stored hash that was imported; the next login replaces it with a hash of our own."""

MAX_CHARACTERS = 1024
_BCRYPT_BYTES = 72
"""The bytes of a password that bcrypt uses; older libraries ignore the rest, and their hashes are accepted."""

_PHPASS_CHARACTERS = 34

_CURE = "create this account with 'keyturn users add' and a new password"
_CURE_OF_DAMAGE = f"export the whole hash again, or {_CURE}"
_UNKNOWN = (
    "The hash is not argon2, bcrypt, scrypt or PBKDF2 in a text form that is supported, nor phpass or SHA-2 crypt: "
    f"write it in one of the documented forms, or {_CURE}"
)


@dataclass(frozen=True, slots=True, repr=False)
class ForeignHash:
    """A hash that can be verified."""

    text: str
    """The form that is stored: without a prefix of `_PREFIX`. Other prefixes, such as `{scrypt}`, belong to it."""
    matches: Callable[[str], bool]
    memory_kib: int
    """The memory of one comparison; 0 for families that need very little (bcrypt, PBKDF2)."""


_Reading = tuple[Callable[[str], bool], int]
"""A function that compares a password with the hash, and the KiB that it needs."""


def read(text: str) -> ForeignHash:
    """Parse a hash. Raises `ValueError` with a reason and what to do, and quotes no part of the hash.

    White space and line ends around the hash are ignored.
    """
    text = text.strip(" \t\r\n")
    if len(text) > MAX_CHARACTERS or not text.isascii() or not text.isprintable():
        raise ValueError(_UNKNOWN)
    text = _PREFIX.sub("", text, count=1)
    for old, new in _LDAP_PBKDF2.items():
        if text.startswith(old) and "$" in text:
            text = new + text.removeprefix(old)
    for form, reader in _READERS:
        match = form.fullmatch(text)
        if match is not None:
            return ForeignHash(text, *reader(match))
    for form, scheme in _PASSLIB:
        if form.match(text):
            return ForeignHash(text, *_read_with_passlib(text, scheme))
    for form, name in _REFUSED:
        if form.fullmatch(text):
            raise ValueError(f"The hash is {name}, which is not accepted: {_CURE}")
    raise ValueError(_UNKNOWN)


# Django writes the name of the algorithm before the usual form: `argon2$argon2id$...`, `bcrypt$$2b$...`. Spring
# Security and OpenLDAP write a name in braces: `{bcrypt}$2a$...`.
_PREFIX = re.compile(
    r"\A(?:argon2|bcrypt\$|\{(?:bcrypt|argon2(?:@SpringSecurity_v5_[28])?|crypt)\})(?=\$)", re.IGNORECASE
)
_LDAP_PBKDF2 = {
    "{PBKDF2}": "$pbkdf2$",
    "{PBKDF2-SHA256}": "$pbkdf2-sha256$",
    "{PBKDF2-SHA512}": "$pbkdf2-sha512$",
}

# ---- What passlib reads


_PASSLIB = tuple(
    (re.compile(form), scheme)
    for form, scheme in (
        (r"\$argon2", "argon2"),
        (r"\$2[aby]?\$", "bcrypt"),
        (r"\$wp\$2[aby]\$", "bcrypt"),
        (r"bcrypt_sha256\$\$2", "django_bcrypt_sha256"),
        (r"\$bcrypt-sha256\$", "bcrypt_sha256"),
        (r"\$(?:scrypt|7)\$", "scrypt"),
        (r"\$pbkdf2\$", "pbkdf2_sha1"),
        (r"\$pbkdf2-sha256\$", "pbkdf2_sha256"),
        (r"\$pbkdf2-sha512\$", "pbkdf2_sha512"),
        (r"\$[PH]\$", "phpass"),
        (r"\$5\$", "sha256_crypt"),
        (r"\$6\$", "sha512_crypt"),
    )
)


def _read_with_passlib(text: str, scheme: str) -> _Reading:
    import passlib.hash  # each handler is loaded when the first hash of its kind is read

    handler = getattr(passlib.hash, scheme)
    is_wordpress = text.startswith("$wp$")
    bare = text.removeprefix("$wp")
    try:
        parsed: Any = handler.from_string(bare)
    except Exception:  # noqa: BLE001 -- a parser of foreign text may raise anything
        raise ValueError(
            f"The hash is a broken {scheme} hash, or one of a kind that is not supported: {_CURE_OF_DAMAGE}"
        ) from None
    is_cut = scheme == "phpass" and len(bare) != _PHPASS_CHARACTERS  # passlib accepts it, and no password matches
    if is_cut or getattr(parsed, "checksum", None) is None:
        raise ValueError(f"The hash is a truncated {scheme} hash: {_CURE_OF_DAMAGE}")
    _check_cost(scheme, parsed)
    if scheme == "argon2" and not _is_read_by_libargon2(parsed, bare):
        raise ValueError(f"The hash is an argon2 hash that no password matches: {_CURE_OF_DAMAGE}")
    before: Callable[[str], str | bytes] = str
    if is_wordpress:
        before = _prehash_as_wordpress
    elif scheme == "bcrypt":
        before = _cut_as_bcrypt
    memory_kib = 0
    if scheme == "argon2":
        memory_kib = parsed.memory_cost
    elif scheme == "scrypt":
        memory_kib = _scrypt_kib(1 << parsed.rounds, parsed.block_size, parsed.parallelism)
    return lambda password: bool(handler.verify(before(password), bare)), memory_kib


def _check_cost(scheme: str, parsed: Any) -> None:
    """Raise `ValueError` for a hash that costs more than 128 MiB or about a second, or if scrypt's N is not valid.

    The limits: argon2 of 10 passes and 8 lanes, bcrypt of 2^14 rounds, PBKDF2 of two million, scrypt of r up to 32
    and p up to 4, SHA-2 crypt of 700,000 rounds, phpass of 2^16.
    """
    match scheme:
        case "argon2":
            is_too_costly = parsed.memory_cost > 131_072 or parsed.rounds > 10 or parsed.parallelism > 8
        case "bcrypt" | "bcrypt_sha256" | "django_bcrypt_sha256":
            is_too_costly = parsed.rounds > 14
        case "scrypt":  # r and p first, so that nothing is computed from an unbounded number
            r, p = parsed.block_size, parsed.parallelism
            is_too_costly = r > 32 or p > 4 or 128 * r << parsed.rounds > 1 << 27
        case "phpass":
            is_too_costly = parsed.rounds > 16
        case "sha256_crypt" | "sha512_crypt":
            is_too_costly = parsed.rounds > 700_000
        case _:
            is_too_costly = parsed.rounds > 2_000_000
    if is_too_costly:
        raise ValueError(f"The hash is a {scheme} hash that would cost too much at a login: {_CURE}")
    if scheme == "scrypt" and parsed.rounds >= 16 * parsed.block_size:  # RFC 7914 section 2
        raise ValueError(
            f"The hash is a scrypt hash that is not valid: its N is too large for its r. Instead, {_CURE}"
        )


def _is_read_by_libargon2(parsed: Any, hashed: str) -> bool:
    """Whether it has the sizes of RFC 9106 section 3.1, no associated data, and each number in canonical form."""
    has_size = parsed.memory_cost >= 8 * parsed.parallelism and len(parsed.checksum) >= 4
    return has_size and not parsed.data and parsed.to_string() == hashed.replace("$v=16$", "$")


def _cut_as_bcrypt(password: str) -> bytes:
    return password.encode()[:_BCRYPT_BYTES]


def _prehash_as_wordpress(password: str) -> bytes:
    """Return what WordPress 6.8 passes to bcrypt: it trims passwords at login, then shortens them with HMAC."""
    trimmed = password.strip(" \t\n\r\0\x0b").encode()
    return base64.b64encode(hmac.digest(b"wp-sha384", trimmed, "sha384"))


# ---- What hashlib computes


def _read_pbkdf2(algorithm: str, iterations: int, salt: bytes, digest: bytes) -> _Reading:
    if iterations > 2_000_000:
        raise ValueError(f"The hash is a PBKDF2 hash that would cost too much at a login: {_CURE}")
    if len(digest) != hashlib.new(algorithm).digest_size:
        raise ValueError(f"The hash is a PBKDF2 hash that is truncated or too long: {_CURE_OF_DAMAGE}")
    return lambda password: hmac.compare_digest(
        hashlib.pbkdf2_hmac(algorithm, password.encode(), salt, iterations), digest
    ), 0


def _scrypt(n: int, r: int, p: int, salt: bytes, size: int) -> Callable[[str], bytes]:
    """Return the computation. Raises `ValueError` if it would cost too much or if its numbers are not valid.

    Django uses p = 5, so p may be up to 16 (`_check_cost` allows 4), but a p above 4 needs an N below the largest.
    """
    if r > 32 or p > 16 or 128 * n * r > 1 << 27 or n * r * p > 1 << 22:
        raise ValueError(f"The hash is a scrypt hash that would cost too much at a login: {_CURE}")
    if n < 2 or n & (n - 1) or r < 1 or p < 1 or n.bit_length() > 16 * r:  # RFC 7914 section 2
        raise ValueError(
            "The hash is a scrypt hash that is not valid: its N is not a power of two below 2^(16 r). "
            f"Instead, {_CURE}"
        )
    return lambda password: hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=1 << 28, dklen=size)


def _scrypt_kib(n: int, r: int, p: int) -> int:
    """The KiB that scrypt needs (RFC 7914 section 6): V has 128 * r * N bytes, B has 128 * r * p."""
    return (n + p) * r // 8


def _read_scrypt(n: int, r: int, p: int, salt: bytes, digest: bytes, *, size: int = 64) -> _Reading:
    if len(digest) != size:
        raise ValueError(f"The hash is a scrypt hash that is truncated or too long: {_CURE_OF_DAMAGE}")
    derive = _scrypt(n, r, p, salt, size)
    return lambda password: hmac.compare_digest(derive(password), digest), _scrypt_kib(n, r, p)


def _read_firebase(match: re.Match[str]) -> _Reading:
    """Read a hash of Firebase: the project's signer key, encrypted with a key that scrypt derives (AES-CTR)."""
    salt, hashed, separator, signer = (_bytes(match[name] or "") for name in ("salt", "hash", "ss", "sk"))
    if len(signer) < 32 or len(hashed) != len(signer):
        raise ValueError(
            "The hash is a Firebase scrypt hash that is truncated, or whose signer key is not that of the project: "
            "write both in full"
        )
    n, r, p = 1 << int(match["n"]), int(match["r"]), int(match["p"])
    derive = _scrypt(n, r, p, salt + separator, 32)

    def matches(password: str) -> bool:
        encryptor = Cipher(AES(derive(password)), CTR(bytes(16))).encryptor()
        return hmac.compare_digest(encryptor.update(signer) + encryptor.finalize(), hashed)

    return matches, _scrypt_kib(n, r, p)


def _read_spring_pbkdf2(match: re.Match[str]) -> _Reading:
    """Read a hash of Spring's Pbkdf2PasswordEncoder with its defaults and without a secret: salt and key, in hex."""
    data = bytes.fromhex(match["data"])
    salt_size, algorithm, iterations = (16, "sha256", 310_000) if match["new"] else (8, "sha1", 185_000)
    if len(data) != salt_size + 32:
        raise ValueError(
            "The hash is a Spring {pbkdf2} hash with other settings than the defaults, and it does not contain its "
            f"settings: {_CURE}"
        )
    salt, key = data[:salt_size], data[salt_size:]
    return lambda password: hmac.compare_digest(
        hashlib.pbkdf2_hmac(algorithm, password.encode(), salt, iterations, 32), key
    ), 0


def _read_spring_scrypt(match: re.Match[str]) -> _Reading:
    """Read a hash of Spring's SCryptPasswordEncoder: log2 N, r and p are in one hexadecimal number."""
    cost = int(match["cost"], 16)
    if cost >> 16 > 24:
        raise ValueError(f"The hash is a scrypt hash that would cost too much at a login: {_CURE}")
    n, r, p = 1 << (cost >> 16), cost >> 8 & 0xFF, cost & 0xFF
    return _read_scrypt(n, r, p, _bytes(match["salt"]), _bytes(match["digest"]), size=32)


def _bytes(text: str) -> bytes:
    """Decode base64 of either alphabet. Raises `ValueError`."""
    try:
        plain = text.rstrip("=").replace("-", "+").replace("_", "/")
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except binascii.Error:
        raise ValueError(f"The hash is not in valid base64: {_CURE_OF_DAMAGE}") from None


_NUMBER = "[1-9][0-9]{0,9}"
_BASE64 = "[A-Za-z0-9+/_-]+={0,2}"
_SHA = "sha(?:1|224|256|384|512)"
_READERS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], _Reading]], ...] = (
    (  # Django
        re.compile(rf"pbkdf2_({_SHA})\$({_NUMBER})\$([^$]+)\$({_BASE64})"),
        lambda m: _read_pbkdf2(m[1], int(m[2]), m[3].encode(), _bytes(m[4])),
    ),
    (
        re.compile(rf"scrypt\$({_NUMBER})\$([^$]+)\$({_NUMBER})\$({_NUMBER})\$({_BASE64})"),
        lambda m: _read_scrypt(int(m[1]), int(m[3]), int(m[4]), m[2].encode(), _bytes(m[5])),
    ),
    (  # Werkzeug (Flask)
        re.compile(rf"pbkdf2:({_SHA}):({_NUMBER})\$([^$]+)\$((?:[0-9a-f]{{2}})+)"),
        lambda m: _read_pbkdf2(m[1], int(m[2]), m[3].encode(), bytes.fromhex(m[4])),
    ),
    (
        re.compile(rf"scrypt:({_NUMBER}):({_NUMBER}):({_NUMBER})\$([^$]+)\$((?:[0-9a-f]{{2}})+)"),
        lambda m: _read_scrypt(int(m[1]), int(m[2]), int(m[3]), m[4].encode(), bytes.fromhex(m[5])),
    ),
    (
        re.compile(r"\{pbkdf2(?P<new>@SpringSecurity_v5_8)?\}(?P<data>(?:[0-9a-f]{2})+)"),
        _read_spring_pbkdf2,
    ),
    (
        re.compile(
            rf"\{{scrypt(?:@SpringSecurity_v5_8)?\}}\$(?P<cost>[0-9a-f]{{1,8}})"
            rf"\$(?P<salt>{_BASE64})\$(?P<digest>{_BASE64})"
        ),
        _read_spring_scrypt,
    ),
    (  # Firebase, as Supabase writes it, and as Ory Kratos does
        re.compile(
            rf"\$fbscrypt\$v=1,n=(?P<n>[1-9][0-9]?),r=(?P<r>{_NUMBER}),p=(?P<p>{_NUMBER})"
            rf"(?:,ss=(?P<ss>{_BASE64}))?,sk=(?P<sk>{_BASE64})\$(?P<salt>{_BASE64})\$(?P<hash>{_BASE64})"
        ),
        _read_firebase,
    ),
    (
        re.compile(
            rf"\$firescrypt\$ln=(?P<n>[1-9][0-9]?),r=(?P<r>{_NUMBER}),p=(?P<p>{_NUMBER})"
            rf"\$(?P<salt>{_BASE64})\$(?P<hash>{_BASE64})\$(?P<ss>{_BASE64})\$(?P<sk>{_BASE64})"
        ),
        _read_firebase,
    ),
)

# ---- The hashes that are refused, and their names


_REFUSED = tuple(
    (re.compile(form), name)
    for form, name in (
        (r"[0-9a-fA-F]{32}", "a bare MD5 or NT hash"),
        (r"[0-9a-fA-F]{40}", "a bare SHA-1 hash"),
        (r"[0-9a-fA-F]{56}|[0-9a-fA-F]{64}|[0-9a-fA-F]{96}|[0-9a-fA-F]{128}", "a bare SHA-2 hash"),
        (r"\$1\$.*", "an MD5 crypt hash ($1$)"),
        (r"\$apr1\$.*", "an Apache MD5 hash ($apr1$)"),
        (r"\$md5.*", "a Sun MD5 crypt hash ($md5$)"),
        (r"\$sha1\$.*", "a SHA-1 crypt hash ($sha1$)"),
        (r"\$g?y\$.*", "a yescrypt hash ($y$)"),
        (r"\$2x\$.*", "a bcrypt hash of the library that had a fault ($2x$)"),
        (r"\$3\$.*", "an NT hash ($3$)"),
        (r"U?\$S\$.*", "a Drupal 7 hash ($S$)"),
        (r"\$(?:krb5|keytab).*", "a Kerberos key"),
        (r"[./0-9A-Za-z]{13}|_[./0-9A-Za-z]{19}", "a DES crypt hash"),
        (r"crypt\$.*", "a DES crypt hash of Django"),
        (r"(?:unsalted_)?(?:md5|sha1|sha224|sha256|sha384|sha512)\$.*", "a salted MD5 or SHA hash"),
        (r"[^$:]{1,64}:[0-9a-f]{32,128}|[0-9a-f]{32,128}:[^$:]{1,64}(?::[0-9])?", "a salted MD5 or SHA hash"),
        (r"md5[0-9a-f]{32}", "a PostgreSQL MD5 hash"),
        (r"SCRAM-SHA-.*", "a SCRAM verifier"),
        (r"\*[0-9A-Fa-f]{40}", "a MySQL hash"),
        (r"0x0[12]00[0-9A-Fa-f]+", "a SQL Server hash"),
        (r"A(?:Q|AA)[A-Za-z0-9+/]{60,}={0,2}", "an ASP.NET Identity hash"),
        (r"(?i:\{(?:noop|plain|cleartext)\}.*)", "a password in clear text"),
        (r"(?i:\{SSHA\}.*)", "an LDAP {SSHA} hash"),
        (r"(?i:\{SHA\}.*)", "an LDAP {SHA} hash"),
        (r"(?i:\{SMD5\}.*)", "an LDAP {SMD5} hash"),
        (r"(?i:\{MD[45]\}.*)", "an LDAP {MD5} hash"),
        (r"(?i:\{S?SHA-?[0-9]{1,3}\}.*)", "an LDAP {SSHA} or {SHA} hash"),
        (r"(?i:\{crypt\}.*)", "an LDAP {CRYPT} hash of DES"),
        (r"\{[^}]*\}.*", "a hash of a scheme in braces that is not known"),
        (r"!.*|\*", "the mark of an account without a password"),
    )
)
