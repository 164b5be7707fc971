"""Secrets at rest: what is sealed opens in its own place, whole, under a listed master secret, and nowhere else."""

import base64
import hmac
import secrets

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from service.errors import ConfigurationError
from service.sealing import MIN_SECRET_BYTES, Sealer, UnsealError, read_master_secret

FIRST, SECOND, THIRD = (bytes([number]) * 32 for number in (1, 2, 3))
PLACE = {"purpose": "totp", "table": "factors", "row": "Vb3k"}

unhurried = settings(deadline=None)
names = st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1, max_size=20)
places = st.fixed_dictionaries({"purpose": names, "table": names, "row": names})


def hkdf(secret: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 with SHA-256, no salt and one block of output, which is all that is needed here."""
    prk = hmac.digest(b"\0" * 32, secret, "sha256")
    return hmac.digest(prk, info + b"\x01", "sha256")[:length]


@unhurried
@given(plaintext=st.binary(max_size=5000), place=places, master=st.binary(min_size=32, max_size=100))
def test_what_was_sealed_opens(plaintext: bytes, place: dict[str, str], master: bytes) -> None:
    """Any bytes, none at all too, in any place, under any master secret that is long enough."""
    sealer = Sealer([master])
    sealed = sealer.seal(plaintext, **place)
    assert plaintext == sealer.open(sealed, **place)
    assert plaintext == Sealer([master]).open(sealed, **place), "another process opens it too"
    assert len(plaintext) < 8 or plaintext not in sealed


def test_the_form_of_a_sealed_value_is_fixed() -> None:
    """Version, id of the master secret, nonce, then AES-256-GCM: a later version must open what this one wrote."""
    sealed = Sealer([FIRST]).seal(b"seed", **PLACE)
    assert 1 == sealed[0]
    assert hkdf(FIRST, b"keyturn:id", 4) == sealed[1:5]
    cipher = AESGCM(hkdf(FIRST, b"keyturn:seal:totp", 32))
    assert b"seed" == cipher.decrypt(sealed[5:17], sealed[17:], b"totp\x1ffactors\x1fVb3k")
    assert (hkdf(FIRST, b"keyturn:derive:mfa_pending", 32),) == Sealer([FIRST]).derive("mfa_pending")


def test_the_same_value_is_never_sealed_the_same_twice() -> None:
    """Two rows with one secret do not look alike."""
    sealer = Sealer([FIRST])
    assert 200 == len({sealer.seal(b"seed", **PLACE) for _ in range(200)})


@unhurried
@given(place=places, other=places)
def test_a_value_moved_elsewhere_does_not_open(place: dict[str, str], other: dict[str, str]) -> None:
    """Bound to purpose, table and row: with any one of them another, it is worthless."""
    sealer = Sealer([FIRST])
    sealed = sealer.seal(b"seed", **place)
    for name, elsewhere in other.items():
        if elsewhere != place[name]:
            with pytest.raises(UnsealError):
                sealer.open(sealed, **{**place, name: elsewhere})


@pytest.mark.parametrize("name", ["purpose", "table", "row"])
@pytest.mark.parametrize("other", ["", "x", "TOTP", "totp ", "Vb3K"])
def test_each_part_of_the_place_counts(name: str, other: str) -> None:
    """Also where only case, a space, or everything differs."""
    sealed = Sealer([FIRST]).seal(b"seed", **PLACE)
    with pytest.raises(UnsealError):
        Sealer([FIRST]).open(sealed, **{**PLACE, name: other})


def test_the_parts_of_a_place_do_not_run_together() -> None:
    """A row whose name begins where another table's ends is another place."""
    sealer = Sealer([FIRST])
    sealed = sealer.seal(b"seed", purpose="totp", table="factors", row="12")
    for table, row in (("factors1", "2"), ("factor", "s12"), ("factors12", ""), ("", "factors12")):
        with pytest.raises(UnsealError):
            sealer.open(sealed, purpose="totp", table=table, row=row)


@unhurried
@given(plaintext=st.binary(max_size=64), data=st.data())
def test_a_damaged_value_does_not_open(plaintext: bytes, data: st.DataObject) -> None:
    """Every flipped bit counts: of version, key id, nonce, ciphertext and tag."""
    sealer = Sealer([FIRST, SECOND])
    sealed = bytearray(sealer.seal(plaintext, **PLACE))
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(UnsealError):
        sealer.open(bytes(sealed), **PLACE)


@unhurried
@given(plaintext=st.binary(max_size=64), data=st.data())
def test_a_shortened_or_lengthened_value_does_not_open(plaintext: bytes, data: st.DataObject) -> None:
    """Cut anywhere, empty too, or with something behind it."""
    sealer = Sealer([FIRST])
    sealed = sealer.seal(plaintext, **PLACE)
    for other in (sealed[: data.draw(st.integers(0, len(sealed) - 1))], sealed + data.draw(st.binary(min_size=1))):
        with pytest.raises(UnsealError):
            sealer.open(other, **PLACE)


@unhurried
@given(garbage=st.binary(max_size=100))
def test_what_was_never_sealed_does_not_open(garbage: bytes) -> None:
    """Any bytes are refused with one error and no other."""
    with pytest.raises(UnsealError):
        Sealer([FIRST]).open(garbage, **PLACE)


def test_two_values_cannot_be_put_together() -> None:
    """The nonce of one before the ciphertext of another: neither opens."""
    sealer = Sealer([FIRST])
    one, two = (sealer.seal(text, **PLACE) for text in (b"one", b"two"))
    with pytest.raises(UnsealError):
        sealer.open(one[:17] + two[17:], **PLACE)


def test_a_broken_seal_tells_no_secret() -> None:
    """The error names the table, for the operator, and neither the value nor the row."""
    with pytest.raises(UnsealError) as refusal:
        Sealer([FIRST]).open(b"sealed-elsewhere", **PLACE)
    assert "factors" in str(refusal.value)
    assert "sealed-elsewhere" not in str(refusal.value)
    assert "Vb3k" not in str(refusal.value)


def test_the_first_master_secret_seals_and_all_open() -> None:
    """Rotation: the new secret goes in front, the old one stays until nothing is sealed with it any more."""
    before, during, after = Sealer([FIRST]), Sealer([SECOND, FIRST]), Sealer([SECOND])
    old, new = before.seal(b"old", **PLACE), during.seal(b"new", **PLACE)
    assert b"old" == during.open(old, **PLACE)
    assert b"new" == during.open(new, **PLACE)
    assert b"new" == after.open(new, **PLACE)
    assert b"old" == Sealer([THIRD, SECOND, FIRST]).open(old, **PLACE)
    for sealer, sealed in ((before, new), (after, old), (Sealer([THIRD]), old)):
        with pytest.raises(UnsealError):
            sealer.open(sealed, **PLACE)


def test_a_value_cannot_claim_another_master_secret() -> None:
    """The id in a sealed value chooses the key that is tried; with another's id it does not open."""
    both = Sealer([FIRST, SECOND])
    old, new = (Sealer([master]).seal(b"seed", **PLACE) for master in (FIRST, SECOND))
    with pytest.raises(UnsealError):
        both.open(old[:1] + new[1:5] + old[5:], **PLACE)


@unhurried
@given(one=names, two=names)
def test_each_purpose_has_keys_of_its_own(one: str, two: str) -> None:
    """Derived keys are 32 bytes, the same in every process, and differ by purpose and by master secret."""
    assume(one != two)
    keys = [*Sealer([FIRST, SECOND]).derive(one), *Sealer([FIRST, SECOND]).derive(two)]
    assert [32] * 4 == [len(key) for key in keys]
    assert 4 == len(set(keys))
    assert keys[:2] == list(Sealer([FIRST, SECOND]).derive(one))
    assert keys[0] == Sealer([FIRST]).derive(one)[0]
    assert not {FIRST, SECOND} & set(keys)


@pytest.mark.parametrize("masters", [[], [b""], [b"x" * 31], [FIRST, b"x" * 31], [b"x" * 31, FIRST]])
def test_no_master_secret_is_short(masters: list[bytes]) -> None:
    """None at all, or one below 32 bytes anywhere in the list: the service does not start."""
    with pytest.raises(ConfigurationError):
        Sealer(masters)


@unhurried
@given(master=st.binary(min_size=MIN_SECRET_BYTES, max_size=80))
def test_a_master_secret_is_read_in_hex(master: bytes) -> None:
    """In either case, with white space around it."""
    for text in (master.hex(), master.hex().upper(), f" {master.hex()}\r\n"):
        assert master == read_master_secret(text)


@unhurried
@given(master=st.binary(min_size=MIN_SECRET_BYTES, max_size=80))
def test_a_master_secret_is_read_in_base64(master: bytes) -> None:
    """In either alphabet, padded or not; what could be both is hex."""
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = encode(master).decode()
        assume(not set(text.rstrip("=")) <= set("0123456789abcdefABCDEF"))
        for form in (text, text.rstrip("="), f"\t{text}\n"):
            assert master == read_master_secret(form)


def test_the_sentence_of_the_error_makes_a_good_secret() -> None:
    """`openssl rand -hex 32`, as every message advises, is accepted, and so is its base64 sister."""
    for text in (secrets.token_hex(32), base64.b64encode(secrets.token_bytes(32)).decode()):
        assert 32 == len(read_master_secret(text))


@pytest.mark.parametrize("length", [0, 1, 16, 31])
def test_a_short_master_secret_is_refused(length: int) -> None:
    """In hex and in base64 alike, with its length and what to do, and without the secret."""
    master = secrets.token_bytes(length)
    for text in (master.hex(), base64.b64encode(master).decode()):
        with pytest.raises(ConfigurationError) as refusal:
            read_master_secret(text)
        assert f"{length} bytes" in str(refusal.value)
        assert "openssl rand -hex 32" in str(refusal.value)


@pytest.mark.parametrize(
    "text",
    [
        "correct horse battery staple correct horse",
        "x" * 41,  # no base64 has this length
        "!" * 64,
        "a" * 63 + "g!",
        "00 11 22 33 44 55 66 77 88 99 aa bb cc dd ee ff 00 11 22 33 44 55 66 77 88 99 aa bb cc dd ee ff",
        "AAAA=" * 16,
        "\uff10" * 64,
        "\ud800" * 64,
        "\0" * 64,
    ],
)
def test_what_is_neither_hex_nor_base64_is_refused(text: str) -> None:
    """Never guessed at, and never repeated: a typing error may be nearly the secret."""
    with pytest.raises(ConfigurationError) as refusal:
        read_master_secret(text)
    assert text not in str(refusal.value)
    assert refusal.value.__suppress_context__
    assert refusal.value.__cause__ is None


@unhurried
@given(text=st.text())
def test_any_text_is_a_long_secret_or_a_refusal(text: str) -> None:
    """Whatever stands in the variable, there is no third outcome."""
    try:
        master = read_master_secret(text)
    except ConfigurationError:
        return
    assert len(master) >= MIN_SECRET_BYTES


def test_a_hex_secret_that_lost_a_digit_is_no_base64() -> None:
    """Sixty-three hex digits are a slip of the hand: read as base64 they would quietly be another secret."""
    with pytest.raises(ConfigurationError, match="neither hex nor base64"):
        read_master_secret(secrets.token_hex(32)[:-1])
