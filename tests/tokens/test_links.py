"""Tokens of links. Law 16: derive, do not store; consume with one statement."""

import asyncio
import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.clock import LEEWAY_SECONDS
from service.components import Components, open_components
from service.errors import InvalidToken
from service.origin import Caller
from service.settings import Settings
from service.storage.sealing import Sealer
from service.tokens.links import (
    MAX_CLAIMS_BYTES,
    EmailCancellation,
    EmailConfirmation,
    Invitation,
    Link,
    Links,
    PasswordReset,
    digest_address,
)
from service.tokens.opaque import OpaqueCodec, decode, encode
from service.tokens.refresh import RefreshCodec
from service.users import users
from service.users.passwords import CHEAPEST
from tests.harness.clients import SECRET
from tests.harness.databases import PATIENT
from tests.harness.people import PASSWORD, MovableClock
from tests.harness.servers import make_schema

NOW = datetime(2026, 11, 30, 12, 0, 0, 999999, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ISSUED_AT = int(NOW.timestamp())
TIMES = {"issued_at": ISSUED_AT, "expires_at": ISSUED_AT + 1800}
OLD, NEW, FOREIGN = bytes(range(32)), bytes(range(1, 33)), bytes(range(2, 34))
LINKS = Links(Sealer([OLD]))

RESET = PasswordReset(**TIMES, sub="Vb3k", credential_version=3)
CONFIRMATION = EmailConfirmation(**TIMES, sub="Vb3k", address="alice@example.com")
CANCELLATION = EmailCancellation(**TIMES, sub="Vb3k", address_digest=digest_address("alice@example.com"))
INVITATION = Invitation(**TIMES, id="Vb3k", address_digest=None)
BOUND_INVITATION = replace(INVITATION, address_digest=digest_address("alice@example.com"))
EXAMPLES: list[Link] = [RESET, CONFIRMATION, CANCELLATION, INVITATION, BOUND_INVITATION]
KINDS: list[type[Link]] = [PasswordReset, EmailConfirmation, EmailCancellation, Invitation]


def name_of(value: Link | type[Link]) -> str:
    return value.__name__ if isinstance(value, type) else type(value).__name__


each_example = pytest.mark.parametrize("claims", EXAMPLES, ids=name_of)

seconds = st.integers(0, 2**36)
texts = st.text(st.characters(codec="utf-8"), max_size=60)
versions = st.integers(0, 2**62)
times: dict[str, Any] = {"issued_at": seconds, "expires_at": seconds}
of_user: dict[str, Any] = {**times, "sub": texts}
any_link = st.one_of(
    st.builds(PasswordReset, **of_user, credential_version=versions),
    st.builds(EmailConfirmation, **of_user, address=texts),
    st.builds(EmailCancellation, **of_user, address_digest=texts),
    st.builds(Invitation, **times, id=texts, address_digest=texts | st.none()),
)


def refuses(kind: type[Link], token: str, *, now: datetime = NOW, links: Links = LINKS) -> bool:
    try:
        links.read(kind, token, now=now)
    except InvalidToken:
        return True
    return False


def at(moment: int) -> datetime:
    return datetime.fromtimestamp(moment, UTC)


@given(claims=any_link)
def test_what_is_written_is_read_while_it_is_valid(claims: Link) -> None:
    """Whatever the texts contain: the claims come back as they were, from a token that a URL can carry."""
    token = LINKS.write(claims)
    assert token.isascii()
    assert "ktl_" == token[:4]
    assert token.replace("-", "").replace("_", "").isalnum()
    if claims.issued_at < claims.expires_at:
        assert claims == LINKS.read(type(claims), token, now=at(claims.issued_at))
    else:
        assert refuses(type(claims), token, now=at(claims.issued_at))


@given(one=any_link, other=any_link)
def test_a_token_is_a_function_of_its_claims(one: Link, other: Link) -> None:
    """A message that is sent again has the same link, from any replica; other claims have another token."""
    assert LINKS.write(one) == Links(Sealer([OLD])).write(replace(one))
    assert (LINKS.write(one) == LINKS.write(other)) == (one == other)


@pytest.mark.parametrize(("claims", "kind"), list(itertools.product(EXAMPLES, KINDS)), ids=name_of)
def test_a_token_is_valid_for_its_own_purpose_only(claims: Link, kind: type[Link]) -> None:
    """Each purpose has a key of its own: even claims of the same form are refused for another purpose."""
    assert refuses(kind, LINKS.write(claims)) == (type(claims) is not kind)


def test_no_purpose_has_the_key_of_another_kind_of_token() -> None:
    """A body that was signed with the key of another purpose, or of refresh tokens, is refused under the prefix."""
    body = decode("ktl_", LINKS.write(RESET))[:-32]
    sealer = Sealer([OLD])
    for purpose in (
        "refresh",
        "mfa_pending",
        "link:",
        "password_reset",
        "link:email_confirmation",
        "link:invitation",
    ):
        forged = OpaqueCodec("ktl_", sealer.derive(purpose), body_bytes=range(1, 1000)).write(body)
        assert refuses(PasswordReset, forged), purpose
    assert refuses(PasswordReset, RefreshCodec(sealer.derive("refresh")).write("A" * 22, 0))
    genuine = OpaqueCodec("ktl_", sealer.derive("link:password_reset"), body_bytes=range(1, 1000)).write(body)
    assert genuine == LINKS.write(RESET)


@each_example
def test_no_bit_can_be_changed(claims: Link) -> None:
    """Every single bit of claims and MAC."""
    raw = decode("ktl_", LINKS.write(claims))
    for bit in range(8 * len(raw)):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        assert refuses(type(claims), encode("ktl_", bytes(changed))), bit


@each_example
def test_a_token_has_one_spelling(claims: Link) -> None:
    """Padding, white space, another alphabet, another prefix and unused bits that are not zero are refused."""
    token = LINKS.write(claims)
    others = [
        f"{token}=",
        f"{token}==",
        f"{token}\n",
        f" {token}",
        f"{token}A",
        token[:-1],
        token[4:],
        f"ktl_{token}",
    ]
    others += ["ktr_" + token[4:], "KTL_" + token[4:], token.replace("_", "/"), token[:9] + "\xe9" + token[9:]]
    others += [token[:-1] + last for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"]
    assert [] == [other for other in others if other != token and not refuses(type(claims), other)]


@given(text=st.text() | st.text(st.sampled_from("ktl_AAA-_=\ud800\0\n")))
def test_any_text_raises_invalid_token_only(text: str) -> None:
    """A link comes from a mail program, which may have done anything to it."""
    for kind in KINDS:
        assert refuses(kind, text)
        assert refuses(kind, f"ktl_{text}")


def test_claims_have_a_limit() -> None:
    """The longest `sub` and the longest address fit; longer claims are a defect of the caller, and never read."""
    longest = replace(CONFIRMATION, sub="s" * 255, address="\xe9" * 127)
    assert longest == LINKS.read(EmailConfirmation, LINKS.write(longest), now=NOW)
    beyond = replace(CONFIRMATION, address="a" * MAX_CLAIMS_BYTES)
    with pytest.raises(RuntimeError):
        LINKS.write(beyond)
    body = json.dumps([*TIMES.values(), "Vb3k", 3, "a" * MAX_CLAIMS_BYTES]).encode()
    keys = Sealer([OLD]).derive("link:email_confirmation")
    assert refuses(EmailConfirmation, OpaqueCodec("ktl_", keys, body_bytes=range(1, 9999)).write(body))
    assert refuses(EmailConfirmation, "ktl_" + "A" * 10**7)


@pytest.mark.parametrize(
    "values", [[], [1], [1, 2, "Vb3k"], [1, 2, "Vb3k", 3, 4], [1, 2, 3, "Vb3k"], [1, 2, "Vb3k", "3"], [1, 2, None, 3]]
)
def test_claims_of_another_form_are_refused(values: list[object]) -> None:
    """A version with other claims may have written it: it is invalid, and no failure."""
    body = json.dumps(values).encode()
    keys = Sealer([OLD]).derive("link:password_reset")
    assert refuses(PasswordReset, OpaqueCodec("ktl_", keys, body_bytes=range(1, 999)).write(body), now=at(1))


@each_example
def test_a_token_is_valid_until_its_last_second(claims: Link) -> None:
    """One second before `expires_at` it is read; from that second on it is refused."""
    token, kind = LINKS.write(claims), type(claims)
    assert not refuses(kind, token, now=at(claims.expires_at) - timedelta(microseconds=1))
    assert refuses(kind, token, now=at(claims.expires_at))
    assert refuses(kind, token, now=at(claims.expires_at) + 365 * 86400 * SECOND)


@each_example
def test_a_token_may_come_from_a_replica_whose_clock_is_ten_seconds_ahead(claims: Link) -> None:
    """Ten seconds before `issued_at` it is read, eleven are refused."""
    token, kind = LINKS.write(claims), type(claims)
    assert not refuses(kind, token, now=at(claims.issued_at - LEEWAY_SECONDS))
    assert refuses(kind, token, now=at(claims.issued_at - LEEWAY_SECONDS - 1))


@each_example
def test_a_replaced_master_secret_still_verifies_its_tokens(claims: Link) -> None:
    """The first secret writes, every listed one verifies, and one that is no longer listed does not."""
    before, during, after = (Links(Sealer(secrets)) for secrets in ([OLD], [NEW, OLD], [NEW]))
    kind = type(claims)
    assert claims == during.read(kind, before.write(claims), now=NOW)
    assert claims == after.read(kind, during.write(claims), now=NOW)
    assert refuses(kind, before.write(claims), links=after)
    assert refuses(kind, during.write(claims), links=before)
    assert refuses(kind, Links(Sealer([FOREIGN])).write(claims), links=during)


def test_the_form_of_a_token_is_held() -> None:
    """A link that was sent before an upgrade works after it."""
    token = "ktl_WzE3OTYwNDAwMDAsMTc5NjA0MTgwMCwiVmIzayIsM12vcVjNIs3Hv-BKGkIV6vcvoTWplCKGrsGE3VIWfKgueg"
    assert RESET == LINKS.read(PasswordReset, token, now=NOW)
    assert token == LINKS.write(RESET)


def test_an_address_is_digested_in_lower_case() -> None:
    """Addresses are compared case-insensitively."""
    assert digest_address("Alice@Example.COM") == digest_address("alice@example.com")
    assert digest_address("alice@example.com") != digest_address("alice@example.org")


async def use(parts: Components, links: Links, token: str, now: datetime) -> bool:
    """Use the link of a password reset as an operation does: read it, then let one UPDATE decide."""
    link = links.read(PasswordReset, token, now=now)
    async with parts.database.begin() as transaction:
        changed = await users.reset_password(transaction, link.sub, link.credential_version, "a new hash", now)
    return changed is not None


async def test_of_fifty_uses_at_once_one_wins(world: dict[str, Any], clock: MovableClock) -> None:
    """The row count is the answer. Every other link of that credential version is useless then, too."""
    settings = Settings(**world)
    if settings.database_url is None:
        make_schema(settings)
    links = Links(Sealer([bytes.fromhex(SECRET)]))
    async with open_components(settings, clock, hash_cost=CHEAPEST, timeouts=PATIENT) as parts:
        await parts.sign_up.sign_up("alice", PASSWORD, enable_mfa=False, caller=Caller("192.0.2.1"))
        alice = await users.find(parts.database, "alice")
        assert alice is not None
        issued_at = int(clock().timestamp())
        first, second = (
            links.write(
                PasswordReset(
                    issued_at=issued_at,
                    expires_at=issued_at + lifetime,
                    sub=alice.id,
                    credential_version=alice.credential_version,
                )
            )
            for lifetime in (1800, 1900)
        )
        outcomes = await asyncio.gather(*(use(parts, links, first, clock()) for _ in range(50)))
        assert 1 == sum(outcomes)
        assert not await use(parts, links, second, clock())
        changed = await users.find(parts.database, "alice")
        assert changed is not None
        assert alice.credential_version + 1 == changed.credential_version
        with pytest.raises(InvalidToken):
            await use(parts, links, first, clock() + 1800 * SECOND)
