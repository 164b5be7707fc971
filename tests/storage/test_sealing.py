"""Secrets at rest: a sealed value opens unchanged in its own row under a listed master secret, and nowhere else."""

import base64
import hmac
import secrets

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from service.errors import ConfigurationError
from service.secret_texts import MIN_SECRET_BYTES, read_master_secret
from service.storage.sealing import Sealer, UnsealError

FIRST, SECOND, THIRD = (bytes([number]) * 32 for number in (1, 2, 3))
PLACE = {"purpose": "totp", "table": "factors", "row": "Vb3k"}

no_deadline = settings(deadline=None)
names = st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1, max_size=20)
places = st.fixed_dictionaries({"purpose": names, "table": names, "row": names})


def hkdf(secret: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 with SHA-256, no salt and one block of output, which is enough for these keys."""
    prk = hmac.digest(b"\0" * 32, secret, "sha256")
    return hmac.digest(prk, info + b"\x01", "sha256")[:length]


@no_deadline
@given(plaintext=st.binary(max_size=5000), place=places, master=st.binary(min_size=32, max_size=100))
def test_a_sealed_value_opens(plaintext: bytes, place: dict[str, str], master: bytes) -> None:
    """Any bytes, also none, open in any place and under any master secret that is long enough."""
    sealer = Sealer([master])
    sealed = sealer.seal(plaintext, **place)
    assert plaintext == sealer.open(sealed, **place)
    assert plaintext == Sealer([master]).open(sealed, **place), "another process opens it, too"
    assert len(plaintext) < 8 or plaintext not in sealed


def test_the_form_of_a_sealed_value_is_fixed() -> None:
    """It is version, id of the master secret, nonce, then AES-256-GCM: later versions must open it."""
    sealed = Sealer([FIRST]).seal(b"seed", **PLACE)
    assert 1 == sealed[0]
    assert hkdf(FIRST, b"keyturn:id", 4) == sealed[1:5]
    cipher = AESGCM(hkdf(FIRST, b"keyturn:seal:totp", 32))
    assert b"seed" == cipher.decrypt(sealed[5:17], sealed[17:], b"totp\x1ffactors\x1fVb3k")
    assert (hkdf(FIRST, b"keyturn:derive:mfa_pending", 32),) == Sealer([FIRST]).derive("mfa_pending")


def test_sealing_a_value_twice_gives_different_results() -> None:
    """Two rows with the same secret do not look alike."""
    sealer = Sealer([FIRST])
    assert 200 == len({sealer.seal(b"seed", **PLACE) for _ in range(200)})


@no_deadline
@given(place=places, other=places)
def test_a_value_moved_to_another_place_does_not_open(place: dict[str, str], other: dict[str, str]) -> None:
    """It is bound to purpose, table and row: with another one of them it does not open."""
    sealer = Sealer([FIRST])
    sealed = sealer.seal(b"seed", **place)
    for name, elsewhere in other.items():
        if elsewhere != place[name]:
            with pytest.raises(UnsealError):
                sealer.open(sealed, **{**place, name: elsewhere})


@pytest.mark.parametrize("name", ["purpose", "table", "row"])
@pytest.mark.parametrize("other", ["", "x", "TOTP", "totp ", "Vb3K"])
def test_each_part_of_the_place_counts(name: str, other: str) -> None:
    """It counts also if only the case or a space differs."""
    sealed = Sealer([FIRST]).seal(b"seed", **PLACE)
    with pytest.raises(UnsealError):
        Sealer([FIRST]).open(sealed, **{**PLACE, name: other})


def test_the_parts_of_a_place_are_separated() -> None:
    """Moving a character from the row's name to the table's makes another place."""
    sealer = Sealer([FIRST])
    sealed = sealer.seal(b"seed", purpose="totp", table="factors", row="12")
    for table, row in (("factors1", "2"), ("factor", "s12"), ("factors12", ""), ("", "factors12")):
        with pytest.raises(UnsealError):
            sealer.open(sealed, purpose="totp", table=table, row=row)


@no_deadline
@given(plaintext=st.binary(max_size=64), data=st.data())
def test_a_damaged_value_does_not_open(plaintext: bytes, data: st.DataObject) -> None:
    """Every flipped bit counts: of version, key id, nonce, ciphertext and tag."""
    sealer = Sealer([FIRST, SECOND])
    sealed = bytearray(sealer.seal(plaintext, **PLACE))
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(UnsealError):
        sealer.open(bytes(sealed), **PLACE)


@no_deadline
@given(plaintext=st.binary(max_size=64), data=st.data())
def test_a_shortened_or_lengthened_value_does_not_open(plaintext: bytes, data: st.DataObject) -> None:
    """It may be cut anywhere, be empty, or have something appended."""
    sealer = Sealer([FIRST])
    sealed = sealer.seal(plaintext, **PLACE)
    for other in (sealed[: data.draw(st.integers(0, len(sealed) - 1))], sealed + data.draw(st.binary(min_size=1))):
        with pytest.raises(UnsealError):
            sealer.open(other, **PLACE)


@no_deadline
@given(garbage=st.binary(max_size=100))
def test_garbage_does_not_open(garbage: bytes) -> None:
    """Any bytes raise this error and no other."""
    with pytest.raises(UnsealError):
        Sealer([FIRST]).open(garbage, **PLACE)


def test_parts_of_two_values_do_not_open() -> None:
    """The nonce of one value with the ciphertext of another does not open."""
    sealer = Sealer([FIRST])
    one, two = (sealer.seal(text, **PLACE) for text in (b"one", b"two"))
    with pytest.raises(UnsealError):
        sealer.open(one[:17] + two[17:], **PLACE)


def test_the_error_of_a_broken_seal_reveals_no_secret() -> None:
    """It names the table, for the operator, and neither the value nor the row."""
    with pytest.raises(UnsealError) as refusal:
        Sealer([FIRST]).open(b"sealed-elsewhere", **PLACE)
    assert "factors" in str(refusal.value)
    assert "sealed-elsewhere" not in str(refusal.value)
    assert "Vb3k" not in str(refusal.value)


def test_the_first_master_secret_seals_and_all_open() -> None:
    """To rotate, the new secret goes in front, and the old one stays until no value is sealed with it."""
    before, during, after = Sealer([FIRST]), Sealer([SECOND, FIRST]), Sealer([SECOND])
    old, new = before.seal(b"old", **PLACE), during.seal(b"new", **PLACE)
    assert b"old" == during.open(old, **PLACE)
    assert b"new" == during.open(new, **PLACE)
    assert b"new" == after.open(new, **PLACE)
    assert b"old" == Sealer([THIRD, SECOND, FIRST]).open(old, **PLACE)
    for sealer, sealed in ((before, new), (after, old), (Sealer([THIRD]), old)):
        with pytest.raises(UnsealError):
            sealer.open(sealed, **PLACE)


def test_a_value_with_the_id_of_another_master_secret_does_not_open() -> None:
    """The id in a sealed value selects the key that is tried."""
    both = Sealer([FIRST, SECOND])
    old, new = (Sealer([master]).seal(b"seed", **PLACE) for master in (FIRST, SECOND))
    with pytest.raises(UnsealError):
        both.open(old[:1] + new[1:5] + old[5:], **PLACE)


@no_deadline
@given(one=names, two=names)
def test_each_purpose_has_its_own_keys(one: str, two: str) -> None:
    """Derived keys are 32 bytes, the same in every process, and differ by purpose and by master secret."""
    assume(one != two)
    keys = [*Sealer([FIRST, SECOND]).derive(one), *Sealer([FIRST, SECOND]).derive(two)]
    assert [32] * 4 == [len(key) for key in keys]
    assert 4 == len(set(keys))
    assert keys[:2] == list(Sealer([FIRST, SECOND]).derive(one))
    assert keys[0] == Sealer([FIRST]).derive(one)[0]
    assert not {FIRST, SECOND} & set(keys)


@pytest.mark.parametrize("masters", [[], [b""], [b"x" * 31], [FIRST, b"x" * 31], [b"x" * 31, FIRST]])
def test_a_missing_or_short_master_secret_stops_the_start(masters: list[bytes]) -> None:
    """This holds for no secret at all, and for one below 32 bytes anywhere in the list."""
    with pytest.raises(ConfigurationError):
        Sealer(masters)


@no_deadline
@given(master=st.binary(min_size=MIN_SECRET_BYTES, max_size=80))
def test_a_master_secret_is_read_in_hex(master: bytes) -> None:
    """It is read in either case, with white space around it."""
    for text in (master.hex(), master.hex().upper(), f" {master.hex()}\r\n"):
        assert master == read_master_secret(text)


@no_deadline
@given(master=st.binary(min_size=MIN_SECRET_BYTES, max_size=80))
def test_a_master_secret_is_read_in_base64(master: bytes) -> None:
    """It is read in either alphabet, padded or not; text that could be both is hex."""
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = encode(master).decode()
        assume(not set(text.rstrip("=")) <= set("0123456789abcdefABCDEF"))
        for form in (text, text.rstrip("="), f"\t{text}\n"):
            assert master == read_master_secret(form)


def test_the_advised_command_makes_a_valid_secret() -> None:
    """`openssl rand -hex 32`, which every message advises, is accepted, and so are 32 bytes in base64."""
    for text in (secrets.token_hex(32), base64.b64encode(secrets.token_bytes(32)).decode()):
        assert 32 == len(read_master_secret(text))


@pytest.mark.parametrize("length", [0, 1, 16, 31])
def test_a_short_master_secret_is_refused(length: int) -> None:
    """In hex and in base64, the error has its length and a remedy, but not the secret."""
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
def test_a_secret_that_is_neither_hex_nor_base64_is_refused(text: str) -> None:
    """It is not guessed, and not repeated: a typing error may be nearly the secret."""
    with pytest.raises(ConfigurationError) as refusal:
        read_master_secret(text)
    assert text not in str(refusal.value)
    assert refusal.value.__suppress_context__
    assert refusal.value.__cause__ is None


@no_deadline
@given(text=st.text())
def test_any_text_is_a_long_secret_or_is_refused(text: str) -> None:
    """There is no third outcome, whatever the variable holds."""
    try:
        master = read_master_secret(text)
    except ConfigurationError:
        return
    assert len(master) >= MIN_SECRET_BYTES


def test_a_hex_secret_without_its_last_digit_is_refused() -> None:
    """Sixty-three hex digits are a typing error: read as base64 they would silently be another secret."""
    with pytest.raises(ConfigurationError, match="neither hex nor base64"):
        read_master_secret(secrets.token_hex(32)[:-1])
