"""Secrets as operators write them: the master secrets and the secret of the webhook, from text to bytes.

An error never repeats the text.
"""

import base64
import binascii
import re

from service.errors import ConfigurationError

MIN_SECRET_BYTES = 32
"""The shortest master secret."""


def read_master_secret(text: str, source: str = "A master secret") -> bytes:
    """Decode one master secret written in hex or base64 (either alphabet, padding optional).

    Raises `ConfigurationError`, without the text, if it is neither, or shorter than 32 bytes. `source` is the setting
    or the file that holds it.
    """
    text = text.strip()
    try:
        if re.fullmatch(r"[0-9a-fA-F]+", text):  # an odd number of digits is a mistake, not base64
            secret = bytes.fromhex(text)
        else:
            plain = text.rstrip("=").replace("-", "+").replace("_", "/")
            secret = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ConfigurationError(
            f"{source}: a master secret is neither hex nor base64. Make one with: openssl rand -hex 32"
        ) from None
    if len(secret) < MIN_SECRET_BYTES:
        raise ConfigurationError(
            f"{source}: a master secret has {len(secret)} bytes; it needs {MIN_SECRET_BYTES} or more. "
            "Make one with: openssl rand -hex 32"
        )
    return secret


def read_webhook_secret(text: str) -> bytes:
    """Return the key in a `whsec_...` text. Raises `ValueError` unless it has 24 to 64 bytes in base64."""
    try:
        key = base64.b64decode(text.strip().removeprefix("whsec_"), validate=True)
    except ValueError:  # not base64, or not even ASCII
        key = b""
    if not 24 <= len(key) <= 64:
        raise ValueError(
            "KEYTURN_WEBHOOK_SECRET needs whsec_ and 24 to 64 bytes in base64. "
            "Make one with: echo whsec_$(openssl rand -base64 32)"
        )
    return key
