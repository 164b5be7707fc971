"""Opaque tokens: those issued by earlier versions stay valid, each has one spelling, and a MAC is of one key."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.components import open_components
from service.errors import InvalidToken
from service.origin import OPERATOR
from service.sessions import clients
from service.settings import Settings
from service.storage.sealing import Sealer
from service.tokens import client_secret
from service.tokens.device import LIFETIME, DeviceClaims, DeviceCodec
from service.tokens.opaque import OpaqueCodec, base64url, decode, encode
from service.tokens.pending import PendingAuthenticator, PendingClaims, PendingCodec, PendingLogin, PendingStepUp
from service.tokens.refresh import RefreshClaims, RefreshCodec
from service.users.passwords import CHEAPEST
from tests.harness.databases import PATIENT
from tests.harness.servers import make_schema

NOW = datetime(2026, 11, 30, 12, 0, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MASTER, NEW_MASTER, FOREIGN_MASTER = bytes(range(32)), bytes(range(1, 33)), bytes(range(2, 34))
ISSUED_AT = 1796040000
SID = "AAECAwQFBgcICQoLDA0ODw"

# What an earlier build issued with `MASTER`, and the digest that its database has of the secret.
REFRESH = "ktr_AAECAwQFBgcICQoLDA0ODwAAAAcU9hrvUrvbvIe9vNIWg_oYRokZMFq8FmJEP59gl9a8Lg"
DEVICE = (
    "ktd_ARKZ4ZVOM2Cc76i_AJUmVMEZUlmzrdW7WkRCqccubjBhqL6xcZvNaG_7N0wj_KZbXjZ_K4dwHVL0t2GPC-i17ebf7rzsHB-4nzUjW0k3tSC02"
    "IycoNEvaWyCG2Vf-9FmXiZ-j_F5SJpG2bltMiNWeo5tbgzfUCUyojm7La85hoGg5TOFYLg-gR2aAFIEV88tLcvKpF3DCHbbBNXa_3DarBAlyUN_A_M"
)
CLIENT_SECRET = "kts_cTDKiGFpBQKfvfrFYFNqDzWhX8TP5TqcVoIKFYoUB6I"
CLIENT_DIGEST = "5c56be5b68004d131d15412d202ae1a18d9682297ea54c8fdfe863129839baab"
_HEADER = "eyJhbGciOiJIUzI1NiIsInR5cCI6Im1mYStqd3QifQ."
_REGISTERED = (
    "eyJpc3MiOiJodHRwczovL2F1dGguZXhhbXBsZS5jb20iLCJzdWIiOiJWYjNrIiwiYXVkIjoiaHR0cHM6Ly9hdXRoLmV4YW1wbGUuY29tL2xvZ2luL"
    "TJmYSIsImlhdCI6MTc5NjA0MDAwMCwiZXhwIjoxNzk2MDQwMzAwLCJqdGkiOiJ"
)
PENDING: dict[str, PendingClaims] = {
    f"{_HEADER}{_REGISTERED}BYXhyVmViOTRTZlB3eE9FdFY4T2V3IiwidG9rZW5fdXNlIjoibWZhX3BlbmRpbmciLCJhbXIiOlsicHdkIl0sImVwb2No"
    "IjozfQ.uemCZuYsTqfHRcGgGPUaxHFBGJPHZ4HRI6JN5sIGtYE": PendingLogin(
        "Vb3k", 3, "AaxrVeb94SfPwxOEtV8Oew", ISSUED_AT + 300
    ),
    f"{_HEADER}{_REGISTERED}Zdi1vMGM2cEFuejdNTV90WlN6cldnIiwidG9rZW5fdXNlIjoibWZhX3BlbmRpbmciLCJhbXIiOlsicHdkIl0sImVwb2No"
    "IjozLCJzaWQiOiJBQUVDQXdRRkJnY0lDUW9MREEwT0R3IiwicmFpc2VkIjoyfQ.hDEVSugPsMxubpTRg5Cc2d83eSbgCAe0zu_0h1hyIRs": (
        PendingStepUp("Vb3k", 3, "Yv-o0c6pAnz7MM_tZSzrWg", ISSUED_AT + 300, SID, 2)
    ),
    f"{_HEADER}{_REGISTERED}BU2ItUTg1Z1hCYkwzRXAtenE4WmZRIiwidG9rZW5fdXNlIjoibWZhX3BlbmRpbmciLCJhbXIiOlsicHdkIl0sImVwb2No"
    "IjozLCJzaWQiOiJBQUVDQXdRRkJnY0lDUW9MREEwT0R3IiwicmFpc2VkIjoyLCJmYWN0b3IiOiJ0aGUtZmFjdG9yIn0."
    "6G1yOf_8nC0pTZiE1sOkCY9WCoQGDXh6teR1GekCeXs": (
        PendingAuthenticator("Vb3k", 3, "ASb-Q85gXBbL3Ep-zq8ZfQ", ISSUED_AT + 300, SID, 2, "the-factor")
    ),
}

SEALERS = [Sealer([MASTER]), Sealer([NEW_MASTER, MASTER])]
each_sealer = pytest.mark.parametrize("sealer", SEALERS, ids=["same secret", "replaced secret"])
CODEC = OpaqueCodec("ktx_", [b"k" * 32, b"l" * 32], body_bytes=range(1, 41))


def refuses(codec: OpaqueCodec, token: str) -> bool:
    try:
        codec.read(token)
    except InvalidToken:
        return True
    return False


@each_sealer
def test_a_refresh_token_of_an_earlier_version_is_read(sealer: Sealer) -> None:
    """Under the first master secret this version writes the same token."""
    tokens = RefreshCodec(sealer.derive("refresh"))
    assert RefreshClaims(SID, 7) == tokens.read(REFRESH)
    assert (tokens.write(SID, 7) == REFRESH) == (sealer is SEALERS[0])


@each_sealer
def test_a_device_token_of_an_earlier_version_is_read(sealer: Sealer) -> None:
    """It is valid for ninety days, to the second."""
    tokens = DeviceCodec(sealer)
    claims = tokens.read(DEVICE, now=NOW)
    assert DeviceClaims(claims.id, "Vb3k", "alice", 3, ISSUED_AT, ISSUED_AT - 60) == claims
    assert claims == tokens.read(DEVICE, now=NOW + LIFETIME - SECOND)
    with pytest.raises(InvalidToken):
        tokens.read(DEVICE, now=NOW + LIFETIME)


def test_an_earlier_version_reads_a_device_token_of_this_one() -> None:
    """During an upgrade both run: the sealed object has the members that it always had."""
    sealer = SEALERS[0]
    token = DeviceCodec(sealer).write(user_id="Vb3k", username="alice", credential_version=3, proved_at=7, now=NOW)
    members = json.loads(sealer.open(decode("ktd_", token), purpose="device_token", table="", row=""))
    assert len(members.pop("id")) >= 22
    assert {"user_id": "Vb3k", "username": "alice", "epoch": 3, "issued_at": ISSUED_AT, "proved_at": 7} == members


@each_sealer
@pytest.mark.parametrize(("token", "claims"), PENDING.items(), ids=["login", "step-up", "authenticator"])
def test_a_pending_token_of_an_earlier_version_is_read(sealer: Sealer, token: str, claims: PendingClaims) -> None:
    """Each of the three kinds becomes a type of its own."""
    issuer = "https://auth.example.com"
    tokens = PendingCodec(issuer=issuer, ttl=timedelta(minutes=5), keys=sealer.derive("mfa_pending"))
    assert claims == tokens.read(token, now=NOW)


async def test_a_client_secret_of_an_earlier_version_is_accepted(world: dict[str, Any]) -> None:
    """The database has its SHA-256, of the text with its prefix."""
    settings = Settings(**world)
    if settings.database_url is None:
        make_schema(settings)
    async with open_components(settings, lambda: NOW, hash_cost=CHEAPEST, timeouts=PATIENT) as parts:
        await parts.clients.add("billing", ("read",), by=OPERATOR)
        async with parts.database.begin() as transaction:
            await transaction.execute("UPDATE clients SET secret_digest = $1", bytes.fromhex(CLIENT_DIGEST))
        found = await clients.authenticate(parts.database, "billing", CLIENT_SECRET, NOW)
        assert clients.Client("billing", ("read",)) == found
        for other in (CLIENT_SECRET.removeprefix("kts_"), CLIENT_SECRET[:-1], f"{CLIENT_SECRET}A", ""):
            assert await clients.authenticate(parts.database, "billing", other, NOW) is None


def test_a_client_secret_is_one_of_the_stored_ones() -> None:
    """It is 32 random bytes behind its prefix; without a stored one every secret is wrong."""
    one, other = client_secret.make(), client_secret.make()
    assert one != other
    assert 32 == len(decode("kts_", one))
    assert bytes.fromhex(CLIENT_DIGEST) == client_secret.digest(CLIENT_SECRET)
    stored = [client_secret.digest(one), client_secret.digest(other)]
    assert client_secret.is_one_of(one, stored)
    assert client_secret.is_one_of(other, stored)
    assert not client_secret.is_one_of(one, stored[1:])
    assert not client_secret.is_one_of(one, [])


@pytest.mark.parametrize("sealer", [Sealer([NEW_MASTER]), Sealer([FOREIGN_MASTER])], ids=["unlisted", "foreign"])
def test_a_secret_that_is_not_listed_verifies_nothing(sealer: Sealer) -> None:
    """Once the old master secret is removed, its tokens are invalid."""
    with pytest.raises(InvalidToken):
        RefreshCodec(sealer.derive("refresh")).read(REFRESH)
    with pytest.raises(InvalidToken):
        DeviceCodec(sealer).read(DEVICE, now=NOW)


@given(body=st.binary(min_size=1, max_size=40))
def test_what_is_written_is_read(body: bytes) -> None:
    """The token of a body is the same at every call."""
    assert CODEC.write(body) == CODEC.write(body)
    assert body == CODEC.read(CODEC.write(body))


@given(body=st.binary(min_size=1, max_size=40), data=st.data())
def test_no_bit_of_a_token_can_be_changed(body: bytes, data: st.DataObject) -> None:
    """Neither of the body nor of the MAC."""
    raw = bytearray(decode("ktx_", CODEC.write(body)))
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    assert refuses(CODEC, encode("ktx_", bytes(raw)))


@given(data=st.binary(min_size=1, max_size=60), change=st.sampled_from(["=", "==", "\n", " ", "A", "\xe9", "\ud800"]))
def test_bytes_have_one_spelling(data: bytes, change: str) -> None:
    """No padding, no other characters, and the unused bits of the last character are zero (RFC 4648 section 3.5)."""
    token = encode("ktx_", data)
    others = [token + change, change + token, token[:5] + change + token[5:], "ktx_" + token, token[4:]]
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".index(token[-1])
    if len(data) % 3:
        others.append(token[:-1] + "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[last ^ 1])
    for other in others:
        try:
            assert data != decode("ktx_", other)
        except InvalidToken:
            continue


@given(text=st.text() | st.text(st.sampled_from("ktx_AAA-_=\ud800\0\n")) | st.binary().map(base64url))
def test_any_text_raises_invalid_token_only(text: str) -> None:
    """Lone surrogates, NULs and whatever else a request may carry raise no other error."""
    for token in (text, f"ktx_{text}"):
        assert refuses(CODEC, token)


def test_a_body_of_another_length_is_neither_written_nor_read() -> None:
    """A genuine MAC does not help; a text that is too long is not decoded."""
    longer = OpaqueCodec("ktx_", [b"k" * 32], body_bytes=range(1, 100))
    assert not refuses(CODEC, longer.write(bytes(40)))
    for length in (41, 99):
        assert refuses(CODEC, longer.write(bytes(length)))
        with pytest.raises(RuntimeError):
            CODEC.write(bytes(length))
    assert refuses(OpaqueCodec("ktx_", [b"k" * 32], body_bytes=range(4, 5)), longer.write(bytes(3)))
    assert refuses(CODEC, "ktx_" + "A" * 10**7)


def test_the_first_key_writes_and_every_key_verifies() -> None:
    """So a key can be replaced: first it is listed, then it writes, then the former one is removed."""
    old, new = b"o" * 32, b"n" * 32
    before, during, after = (OpaqueCodec("ktx_", keys, body_bytes=range(1, 9)) for keys in ([old], [new, old], [new]))
    assert b"body" == during.read(before.write(b"body")) == after.read(during.write(b"body"))
    assert refuses(after, before.write(b"body"))
    assert refuses(before, during.write(b"body"))


def test_the_prefix_is_part_of_the_token() -> None:
    """A token of another kind is refused even under the same key."""
    other = OpaqueCodec("kty_", [b"k" * 32], body_bytes=range(1, 41))
    assert refuses(CODEC, other.write(b"body"))
    assert refuses(CODEC, CODEC.write(b"body").removeprefix("ktx_"))
    assert refuses(CODEC, CODEC.write(b"body").upper())
