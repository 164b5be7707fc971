"""Time-based one-time codes (RFC 6238).

A code is matched, never trusted: `matching_step` says which 30-second step it belongs to, and the caller
must consume that step before admitting anyone. Nothing here reads a clock, a database or a network.
"""

import base64
import io
import re
from datetime import UTC, datetime

import pyotp
from pyotp.exceptions import OTPVerificationError

PERIOD = 30
"""Seconds of a time step (RFC 6238 section 4.1); authenticator apps know no other."""

MAX_DRIFT_STEPS = 10
"""Steps outside the window within which a code is known as that of a clock that is off."""

MIN_STRONG_BYTES = 14
"""Bytes of a secret: 112 bits (NIST SP 800-63B-4 section 3.1.4). Secrets made here have 160 bits."""

MIN_SECRET_BYTES = 10
"""80 bits, which old systems use: only imported, only if the operator says so, and marked as weak."""

_CODE = re.compile(r"[0-9]{6}")  # not \d: pyotp would take full-width and circled digits for the same code


def new_secret() -> str:
    """A shared secret of 160 bits, as long as the HMAC key (RFC 4226 section 4), in base32."""
    return pyotp.random_base32(32)


def is_weak(secret: str) -> bool:
    """Whether a secret in base32 has less than 112 bits."""
    return len(secret) * 5 // 8 < MIN_STRONG_BYTES


def step_at(moment: datetime) -> int:
    """The time step that `moment` lies in: whole periods since 1970."""
    return int(moment.timestamp()) // PERIOD


def seconds_to_next(moment: datetime) -> float:
    """How long the code of this moment is still shown."""
    return PERIOD - moment.timestamp() % PERIOD


def is_code(text: str) -> bool:
    """Whether `text` has the form of a code: six ASCII digits."""
    return _CODE.fullmatch(text) is not None


def matching_step(secret: str, otp: str, *, at: datetime, skew_steps: int, offset_steps: int = 0) -> int | None:
    """The time step whose code is `otp`, at most `skew_steps` away from `at`; `None` if there is none.

    For an authenticator whose clock is known to be off, `offset_steps` says by how much (positive: it is fast).
    Comparison is in constant time. Anything but six ASCII digits matches nothing.
    """
    middle = step_at(at) + offset_steps
    if not is_code(otp) or middle < skew_steps:  # a clock that never started has no step before the first
        return None
    its_time = datetime.fromtimestamp(middle * PERIOD, UTC)
    try:
        return _Totp(secret).verify_and_get_timecode(otp, for_time=its_time, valid_window=skew_steps)
    except OTPVerificationError:
        return None


def drifted_step(secret: str, otp: str, *, at: datetime, skew_steps: int) -> int | None:
    """The step of a code within `MAX_DRIFT_STEPS` outside the window: of a clock that is off, not of a guess."""
    return matching_step(secret, otp, at=at, skew_steps=skew_steps + MAX_DRIFT_STEPS)


def code_at(secret: str, step: int) -> str:
    """The code of a time step, as an authenticator would show it."""
    return _Totp(secret).generate_otp(step)


def provisioning_uri(secret: str, *, username: str, issuer: str, name: str | None = None) -> str:
    """Return the `otpauth://totp/...` URI that authenticator apps read (Key Uri Format).

    The label is `issuer:username`, or `issuer:username (name)` to tell several authenticators of a user apart. A
    colon in the name becomes a space: the format has one colon, between issuer and account.
    """
    account = username if name is None else f"{username} ({name.replace(':', ' ').strip()})"
    return _Totp(secret).provisioning_uri(name=account, issuer_name=issuer)


def qr_png(uri: str) -> bytes:
    """The URI as a QR code, a PNG image. Takes milliseconds: call it off the event loop."""
    import qrcode  # Pillow is 10 MB of memory that a worker without enrolments does not need

    out = io.BytesIO()
    qrcode.make(uri).save(out)
    return out.getvalue()


def qr_svg(uri: str) -> bytes:
    """The URI as a QR code, an SVG image with a white ground: readers need the quiet zone on a dark page, too."""
    import qrcode
    from qrcode.image.svg import SvgPathFillImage

    out = io.BytesIO()
    qrcode.make(uri, image_factory=SvgPathFillImage).save(out)
    return out.getvalue()


class _Totp(pyotp.TOTP):
    """pyotp accepts no secret of less than 112 bits; imported ones may be shorter."""

    def byte_secret(self) -> bytes:
        secret = base64.b32decode(self.secret + "=" * (-len(self.secret) % 8), casefold=True)
        if len(secret) < MIN_SECRET_BYTES:
            raise ValueError(f"A secret needs {MIN_SECRET_BYTES} bytes.")
        return secret
