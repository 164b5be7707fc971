"""Time-based one-time codes (RFC 6238).

A matching code proves nothing yet: `matching_step` returns its time step of 30 seconds, and the caller must consume
that step before admitting the user. Nothing in this module reads a clock, a database or a network.
"""

import base64
import re
from datetime import UTC, datetime

import pyotp
from pyotp.exceptions import OTPVerificationError

PERIOD = 30
"""Seconds of a time step (RFC 6238 section 4.1); authenticator apps support no other period."""

MAX_DRIFT_STEPS = 10
"""A code at most this many steps outside the ordinary window counts as one of an authenticator with a wrong clock."""

MIN_STRONG_BYTES = 14
"""Bytes of a secret: 112 bits (NIST SP 800-63B-4 section 3.1.4). Secrets that Keyturn makes have 160 bits."""

MIN_SECRET_BYTES = 10
"""80 bits, which old systems use. Such secrets only come from an import that allows them, and are marked as weak."""

_CODE = re.compile(r"[0-9]{6}")  # not \d: pyotp would accept full-width and circled digits as the same code


def new_secret() -> str:
    """Return a new shared secret of 160 bits in base32, the recommended length (RFC 4226 section 4)."""
    return pyotp.random_base32(32)


def is_weak(secret: str) -> bool:
    """Return whether a secret in base32 has fewer than 112 bits."""
    return len(secret) * 5 // 8 < MIN_STRONG_BYTES


def step_at(moment: datetime) -> int:
    """Return the time step of `moment`: whole periods since 1970."""
    return int(moment.timestamp()) // PERIOD


def seconds_to_next(moment: datetime) -> float:
    """Return for how many seconds the authenticator still shows the code of this moment."""
    return PERIOD - moment.timestamp() % PERIOD


def is_code(text: str) -> bool:
    """Return whether `text` has the form of a code: six ASCII digits."""
    return _CODE.fullmatch(text) is not None


def matching_step(secret: str, otp: str, *, at: datetime, skew_steps: int, offset_steps: int = 0) -> int | None:
    """Return the time step with the code `otp`, within `skew_steps` of `at`, or `None` (RFC 6238 section 4.2).

    `offset_steps` is the known offset of the authenticator's clock (positive: it is fast). Comparison is in constant
    time. Only six ASCII digits can match.
    """
    middle = step_at(at) + offset_steps
    if not is_code(otp) or middle < skew_steps:  # with a clock at 1970 there are no earlier steps
        return None
    middle_time = datetime.fromtimestamp(middle * PERIOD, UTC)
    try:
        return _Totp(secret).verify_and_get_timecode(otp, for_time=middle_time, valid_window=skew_steps)
    except OTPVerificationError:
        return None


def drifted_step(secret: str, otp: str, *, at: datetime, skew_steps: int) -> int | None:
    """Return the step of a code at most `MAX_DRIFT_STEPS` outside the ordinary window, or `None`.

    The clock is wrong, or, if the step is in the ordinary window, it differs from a stored offset.
    """
    return matching_step(secret, otp, at=at, skew_steps=skew_steps + MAX_DRIFT_STEPS)


def code_at(secret: str, step: int) -> str:
    """Return the code of a time step, as an authenticator shows it."""
    return _Totp(secret).generate_otp(step)


def provisioning_uri(secret: str, *, username: str, issuer: str, name: str | None = None) -> str:
    """Return the `otpauth://totp/...` URI that authenticator apps read (Key Uri Format).

    The label is `issuer:username`, or `issuer:username (name)` to tell several authenticators of a user apart. A
    colon in the name becomes a space: the format has one colon, between issuer and account.
    """
    account = username if name is None else f"{username} ({name.replace(':', ' ').strip()})"
    return _Totp(secret).provisioning_uri(name=account, issuer_name=issuer)


class _Totp(pyotp.TOTP):
    """TOTP with secrets of 80 bits or more: pyotp accepts none under 112 bits, but imported ones may be shorter."""

    def byte_secret(self) -> bytes:
        secret = base64.b32decode(self.secret + "=" * (-len(self.secret) % 8), casefold=True)
        if len(secret) < MIN_SECRET_BYTES:
            raise ValueError(f"A secret needs {MIN_SECRET_BYTES} bytes.")
        return secret
