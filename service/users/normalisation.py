"""The normal form of passwords, in which the same password from two keyboards is the same text."""

import re
import unicodedata

MAX_BYTES = 1024
"""UTF-8 bytes after NFKC: enough for any passphrase, too little to make hashing the input costly."""

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Password(str):
    """A password in its normal form (NFKC), from which Keyturn makes its hashes.

    `typed` is the text before normalisation. It is kept only during the request and has one use: another system may
    have hashed the password as it was typed.
    """

    __slots__ = ("typed",)
    typed: str


def normalise(typed: str) -> Password:
    """Return the password in NFKC, so that two keyboards type the same password.

    RFC 8265 and NIST SP 800-63B-4 recommend NFC. NFKC, which SP 800-63B-3 recommended, also makes full-width and
    half-width characters equal. Raises `ValueError`, without the password, if it has control characters, surrogates
    or more than 1,024 bytes.
    """
    if _UNPRINTABLE.search(typed):
        raise ValueError("A password must not have control characters")
    if len(typed) > MAX_BYTES:  # before NFKC, which can be slow and can grow
        raise ValueError(f"A password must have at most {MAX_BYTES} bytes")
    password = Password(unicodedata.normalize("NFKC", typed))
    if len(password.encode()) > MAX_BYTES:
        raise ValueError(f"A password must have at most {MAX_BYTES} bytes")
    password.typed = typed
    return password
