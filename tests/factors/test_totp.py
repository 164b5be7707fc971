"""Verification codes: the vectors of the RFCs, properties, and QR codes that are drawn and read again."""

import base64
import hmac
import os
import struct
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, unquote, urlsplit
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.factors import totp
from tests.harness.servers import REPOSITORY

RFC_SECRET = base64.b32encode(b"12345678901234567890").decode()
EVENING = datetime(2026, 11, 22, 19, 30, 10, tzinfo=UTC)

no_deadline = settings(deadline=None)  # the time of an example depends on the machine more than on the code
steps = st.integers(min_value=10, max_value=2**32)
secrets_ = st.binary(min_size=20, max_size=20).map(lambda raw: base64.b32encode(raw).decode())
skews = st.integers(min_value=0, max_value=2)


def code_of(secret: str, step: int) -> str:
    """Compute the code of a step by RFC 4226 section 5.3, independently of the service's library."""
    digest = hmac.digest(base64.b32decode(secret), struct.pack(">Q", step), "sha1")
    offset = digest[-1] & 15
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
    return f"{number % 1000000:06d}"


def during(step: int, seconds: float = 0) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=30 * step + seconds)


@pytest.mark.parametrize(
    ("count", "code"),
    list(enumerate(
        ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"]
    )),
)  # fmt: skip
def test_the_codes_of_rfc_4226(count: int, code: str) -> None:
    """Appendix D: the first ten counts of the secret `12345678901234567890`."""
    assert count == totp.matching_step(RFC_SECRET, code, at=during(count), skew_steps=0)
    assert code == totp.code_at(RFC_SECRET, count)


@pytest.mark.parametrize(
    ("seconds", "eight_digits"),
    [
        (59, "94287082"),
        (1111111109, "07081804"),
        (1111111111, "14050471"),
        (1234567890, "89005924"),
        (2000000000, "69279037"),
        (20000000000, "65353130"),
    ],
)
def test_the_codes_of_rfc_6238(seconds: int, eight_digits: str) -> None:
    """Appendix B, SHA-1: a code of six digits is the end of the code of eight digits."""
    moment = datetime.fromtimestamp(seconds, UTC)
    assert seconds // 30 == totp.matching_step(RFC_SECRET, eight_digits[2:], at=moment, skew_steps=0)
    assert totp.matching_step(RFC_SECRET, eight_digits, at=moment, skew_steps=0) is None


@no_deadline
@given(secret=secrets_, step=steps, shift=st.integers(min_value=-5, max_value=5), skew=skews)
def test_a_code_matches_its_own_step_and_no_other(secret: str, step: int, shift: int, skew: int) -> None:
    """The step found has this code and lies within the skew; if no such step exists, none is found."""
    otp = code_of(secret, step + shift)
    acceptable = {near for near in range(step - skew, step + skew + 1) if code_of(secret, near) == otp}
    found = totp.matching_step(secret, otp, at=during(step, 7), skew_steps=skew)
    assert (found is None) == (not acceptable)
    assert found is None or found in acceptable
    if abs(shift) <= skew:
        assert found is not None


@no_deadline
@given(secret=secrets_, step=steps, number=st.integers(min_value=0, max_value=999999), skew=skews)
def test_a_guess_matches_only_a_code_within_the_skew(secret: str, step: int, number: int, skew: int) -> None:
    """Six digits match if and only if they are the code of an acceptable step."""
    otp = f"{number:06d}"
    shown = {code_of(secret, near) for near in range(step - skew, step + skew + 1)}
    assert (otp in shown) == (totp.matching_step(secret, otp, at=during(step), skew_steps=skew) is not None)


@no_deadline
@given(secret=secrets_, other=secrets_, step=steps)
def test_another_secret_has_other_codes(secret: str, other: str, step: int) -> None:
    """A code belongs to one secret, except if two show the same digits by chance."""
    otp = code_of(other, step)
    found = totp.matching_step(secret, otp, at=during(step), skew_steps=0)
    assert found == (step if code_of(secret, step) == otp else None)


@pytest.mark.parametrize("skew", [0, 1, 2])
def test_the_window_ends_at_the_skew(skew: int) -> None:
    """A code is accepted from the beginning of the first acceptable step to the end of the last."""
    step = totp.step_at(EVENING)
    otp = code_of(RFC_SECRET, step)
    opens, closes = during(step - skew), during(step + skew + 1)

    def accepted(moment: datetime) -> bool:
        return step == totp.matching_step(RFC_SECRET, otp, at=moment, skew_steps=skew)

    assert accepted(opens)
    assert accepted(closes - timedelta(microseconds=1))
    assert not accepted(opens - timedelta(microseconds=1))
    assert not accepted(closes)


def test_a_clock_at_the_epoch_refuses_codes() -> None:
    """In the first half minute of 1970 there is no step before: no code matches, and nothing fails."""
    assert totp.matching_step(RFC_SECRET, "000000", at=during(0, 5), skew_steps=1) is None


@no_deadline
@given(step=steps, seconds=st.floats(min_value=0, max_value=29.999))
def test_a_step_lasts_thirty_seconds(step: int, seconds: float) -> None:
    """Every moment from its first second to the beginning of the next step belongs to it."""
    assert step == totp.step_at(during(step, seconds))


OTHER_DIGITS = {
    "full-width": "".join(map(chr, range(0xFF10, 0xFF1A))),
    "circled": "\u24ea" + "".join(map(chr, range(0x2460, 0x2469))),
    "superscript": "\u2070\u00b9\u00b2\u00b3" + "".join(map(chr, range(0x2074, 0x207A))),
    "subscript": "".join(map(chr, range(0x2080, 0x208A))),
    "Arabic-Indic": "".join(map(chr, range(0x0660, 0x066A))),
    "Devanagari": "".join(map(chr, range(0x0966, 0x0970))),
    "mathematical": "".join(map(chr, range(0x1D7CE, 0x1D7D8))),
}


@pytest.mark.parametrize("name", OTHER_DIGITS)
def test_digits_of_other_scripts_are_refused(name: str) -> None:
    """A valid code in any digits but ASCII's matches nothing: one code has one spelling."""
    right = code_of(RFC_SECRET, totp.step_at(EVENING))
    table = str.maketrans("0123456789", OTHER_DIGITS[name])
    assert totp.matching_step(RFC_SECRET, right, at=EVENING, skew_steps=1) is not None
    assert totp.matching_step(RFC_SECRET, right.translate(table), at=EVENING, skew_steps=1) is None
    one_of_six = right[:5] + right[5].translate(table)
    assert totp.matching_step(RFC_SECRET, one_of_six, at=EVENING, skew_steps=1) is None


@pytest.mark.parametrize(
    "form",
    ["{}\n", "\n{}", " {}", "{} ", "{}\r\n", "{}\0", "+{}", "-{}", "0{}", "{}0", "{}.0", "\ufeff{}",
     "{}\ud800", "\u200b{}"],
)  # fmt: skip
def test_a_code_with_characters_around_it_is_refused(form: str) -> None:
    """The characters are a space, a line feed, a sign, another digit, and invisible characters."""
    right = code_of(RFC_SECRET, totp.step_at(EVENING))
    assert totp.matching_step(RFC_SECRET, form.format(right), at=EVENING, skew_steps=1) is None


@pytest.mark.parametrize("form", ["{} {}", "{}-{}", "{}_{}", "{}\t{}", "{}\u00a0{}"])
def test_a_code_with_characters_inside_is_refused(form: str) -> None:
    """A valid code in two groups does not match."""
    right = code_of(RFC_SECRET, totp.step_at(EVENING))
    assert totp.matching_step(RFC_SECRET, form.format(right[:3], right[3:]), at=EVENING, skew_steps=1) is None


@no_deadline
@given(text=st.text(st.characters(), max_size=9) | st.text(st.characters(categories=["Nd", "No", "Nl"]), max_size=7))
def test_only_six_ascii_digits_are_a_code(text: str) -> None:
    """Any other text, including lone surrogates, matches nothing and raises no error."""
    is_code = len(text) == 6 and set(text) <= set("0123456789")
    assert is_code == totp.is_code(text)
    if not is_code:
        assert totp.matching_step(RFC_SECRET, text, at=EVENING, skew_steps=2) is None


def test_secrets_have_160_bits_and_differ() -> None:
    """A new secret is as long as the key of the HMAC, and differs from all before."""
    made = {totp.new_secret() for _ in range(100)}
    assert 100 == len(made)
    assert {20} == {len(base64.b32decode(secret)) for secret in made}


SCRIPT = """
import time
from datetime import UTC, datetime
from service import clock
from service.factors import totp
time.tzset()
now = clock.system_clock()
assert now.utcoffset().total_seconds() == 0, now
assert abs(now.timestamp() - time.time()) < 5, now
for moment in {moments!r}:
    at = datetime.fromtimestamp(moment, UTC)
    print(totp.step_at(at), *(totp.matching_step({secret!r}, otp, at=at, skew_steps=1) for otp in {otps!r}))
"""


@pytest.mark.parametrize("zone", ["America/New_York", "Pacific/Apia", "Asia/Kathmandu", "UTC"])
def test_the_time_zone_of_the_machine_does_not_matter(zone: str) -> None:
    """A process in any zone finds the steps of UTC, also in the hour that occurs twice."""
    # 2026-11-01 05:30 and 06:30 UTC are both 01:30 in New York; Apia skipped 2011-12-30.
    moments = [1793511000, 1793514600, 1325239170, 1325239200, 1325239200 + 86400, 59]
    otps = [code_of(RFC_SECRET, moment // 30) for moment in moments]
    expected = [
        [
            str(moment // 30),
            *(str(other // 30 if abs(other // 30 - moment // 30) <= 1 else None) for other in moments),
        ]
        for moment in moments
    ]
    script = SCRIPT.format(moments=moments, secret=RFC_SECRET, otps=otps)
    answer = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env={**os.environ, "TZ": zone},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (0, "") == (answer.returncode, answer.stderr)
    assert expected == [line.split() for line in answer.stdout.splitlines()]


def test_the_hour_that_occurs_twice_has_two_sets_of_codes() -> None:
    """Both times 01:30 are 120 steps apart, and the code of one is invalid at the other."""
    new_york = ZoneInfo("America/New_York")
    first = datetime(2026, 11, 1, 1, 30, fold=0, tzinfo=new_york)
    second = datetime(2026, 11, 1, 1, 30, fold=1, tzinfo=new_york)
    assert 120 == totp.step_at(second) - totp.step_at(first)
    otp = code_of(RFC_SECRET, totp.step_at(first))
    assert totp.step_at(first) == totp.matching_step(RFC_SECRET, otp, at=first, skew_steps=1)
    assert totp.matching_step(RFC_SECRET, otp, at=second, skew_steps=1) is None


@pytest.mark.parametrize("username", ["alice", "alice+work@example.com", "a.b_c-d", "x" * 64])
@pytest.mark.parametrize("issuer", ["Keyturn", "Example & Sons", "Zo\u00eb's 100% caf\u00e9", "a/b?c#d"])
@pytest.mark.parametrize(
    ("name", "label"),
    [
        (None, ""),
        ("Tablet", " (Tablet)"),
        ("Zo\u00eb's phone & co?", " (Zo\u00eb's phone & co?)"),
        ("home: tablet", " (home  tablet)"),
    ],
)
def test_authenticator_apps_can_read_the_provisioning_uri(
    username: str, issuer: str, name: str | None, label: str
) -> None:
    """Type, label, secret and issuer keep any characters; the parameters have their default values."""
    uri = totp.provisioning_uri(RFC_SECRET, username=username, issuer=issuer, name=name)
    parts = urlsplit(uri)
    assert ("otpauth", "totp") == (parts.scheme, parts.netloc)
    assert f"{issuer}:{username}{label}" == unquote(parts.path.removeprefix("/"))
    assert 1 == unquote(parts.path).count(":"), "the only colon separates issuer and account"
    assert "" == parts.fragment
    assert "+" not in parts.query, "some apps show a plus where a space was meant"
    fields = parse_qs(parts.query, strict_parsing=True)
    assert [RFC_SECRET] == fields.pop("secret")
    assert [issuer] == fields.pop("issuer")
    usual = {"algorithm": ["SHA1"], "digits": ["6"], "period": ["30"]}
    assert fields.items() <= usual.items()
