"""Users of other systems after the import: their passwords as typed, names, ids and weak secrets."""

import asyncio
import json
import unicodedata
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from httpx2 import AsyncClient
from passlib.hash import argon2, bcrypt, pbkdf2_sha256

from service.factors import totp
from service.operations.doctor.finding import Deployment
from service.operations.doctor.secrets import check_weak_authenticators
from service.origin import OPERATOR
from service.storage.database import Database
from service.users import imported_accounts
from service.users.foreign_hashes import IMPORTED
from service.users.imported_accounts import ImportedAccount
from service.users.normalisation import normalise
from service.users.passwords import CHEAPEST, Passwords
from tests.harness.clients import Client, Opener
from tests.harness.import_files import ANY_HASH, export_lines, import_lines, record
from tests.harness.people import MovableClock, Person
from tests.harness.relying_services import add_client
from tests.harness.sessions import bearer, claims

RAW = {
    "a superscript": "correct\u00b2 horse",
    "an ellipsis": "correct horse\u2026",
    "a fraction": "\u00bd correct horse",
    "a no-break space": "correct\u00a0horse",
    "a decomposed letter": "corre\u0301ct horse",
    "full width": "\uff43orrect horse",
    "a ligature": "\ufb01ne horses",
}
CHEAP_ARGON2 = argon2.using(type="ID", memory_cost=8, rounds=1, parallelism=1)
FOREIGN_HASHES = {
    "argon2 with our parameters": CHEAP_ARGON2,
    "argon2": argon2.using(type="ID", memory_cost=64, rounds=1, parallelism=1),
    "bcrypt": bcrypt.using(rounds=4),
    "PBKDF2": pbkdf2_sha256.using(rounds=1000),
}
OLD_SECRET = "JBSWY3DPEHPK3PXP"
NEW_NAME = "o'brien!" + "x" * 30 + "@" + "y" * 60 + ".example.org"
NO_LIMITS = dict.fromkeys(["limit_signup", "limit_login", "limit_login_address", "limit_login_username"])


@pytest.fixture
async def unlimited(world: dict[str, Any], open_client: Opener) -> Any:
    async with open_client({**world, **NO_LIMITS}) as client:
        yield client


def database(client: Client) -> Database:
    found: Database = client.parts.database
    return found


# ---- Passwords


async def test_a_password_hashed_as_typed_opens_the_account(unlimited: Client, clock: MovableClock) -> None:
    """The first login replaces the hash by one of the normal form, which then matches both spellings."""
    typed = {f"person{n}x{m}": text for n in range(len(FOREIGN_HASHES)) for m, text in enumerate(RAW.values())}
    kinds = [kind for kind in FOREIGN_HASHES.values() for _ in RAW]
    lines = [record(name, kind.hash(text)) for (name, text), kind in zip(typed.items(), kinds, strict=True)]
    assert (len(lines), []) == await import_lines(unlimited, clock, lines)
    for name, text in typed.items():
        person = Person(unlimited, clock, name, text)
        assert 401 == (await person.give_password(text + "x")).status_code
        assert 200 == (await person.give_password()).status_code, name
        assert 200 == (await person.give_password(unicodedata.normalize("NFKC", text))).status_code, name
        assert 200 == (await person.give_password()).status_code, name
    kept = [json.loads(line)["password_hash"] for line in await export_lines(unlimited, with_secrets=False)]
    assert {"$argon2id$v=19$m=8,t=1,p=1"} == {"$".join(text.split("$")[:4]) for text in kept}
    stored = await database(unlimited).fetch_all("SELECT password_hash FROM users")
    assert not [row for row in stored if row["password_hash"].startswith(IMPORTED)]


async def test_a_password_hashed_in_its_normal_form_opens_the_account(unlimited: Client, clock: MovableClock) -> None:
    """The other system normalised passwords as this service does."""
    text = RAW["a ligature"]
    lines = [record(f"person{n}", kind.hash(normalise(text))) for n, kind in enumerate(FOREIGN_HASHES.values())]
    assert (len(lines), []) == await import_lines(unlimited, clock, lines)
    for n in range(len(lines)):
        assert 200 == (await Person(unlimited, clock, f"person{n}", text).give_password()).status_code


async def test_a_hash_made_here_matches_the_normal_form_only(unlimited: Client, clock: MovableClock) -> None:
    """Only imported hashes get the second computation: for other hashes it would only cost time."""
    text = RAW["a superscript"]
    await import_lines(
        unlimited, clock, [record("alice", CHEAP_ARGON2.hash(text)), record("bob", CHEAP_ARGON2.hash(text))]
    )
    await database(unlimited).write_one(  # every operation would hash the normal form
        "UPDATE users SET password_hash = $1 WHERE username = 'alice' RETURNING id", CHEAP_ARGON2.hash(text)
    )
    assert 401 == (await Person(unlimited, clock, "alice", text).give_password()).status_code
    assert 200 == (await Person(unlimited, clock, "bob", text).give_password()).status_code


async def test_both_spellings_are_one_attempt(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """Five wrong passwords are free, as for every user, and a correct one refunds its charge."""
    text = RAW["an ellipsis"]
    async with open_client(world) as client:
        await import_lines(client, clock, [record("alice", FOREIGN_HASHES["bcrypt"].hash(text))])
        alice = Person(client, clock, "alice", text)
        assert [401] * 4 == [(await alice.give_password("wrong\u2026")).status_code for _ in range(4)]
        assert [200] * 6 == [(await alice.give_password()).status_code for _ in range(6)]
        assert [401, 429] == [(await alice.give_password("wrong\u2026")).status_code for _ in range(2)]


async def test_both_spellings_take_one_place_in_the_queue() -> None:
    """One thread without a queue is enough, and the result does not hold what was typed."""
    text = RAW["full width"]
    passwords = Passwords(concurrency=1, queue=0, cost=CHEAPEST)
    password = normalise(text)
    assert (text, unicodedata.normalize("NFKC", text)) == (password.typed, str(password))
    for kind in FOREIGN_HASHES.values():
        assert await passwords.verify(password, IMPORTED + kind.hash(text))
        assert not await passwords.verify(password, IMPORTED + kind.hash("another password"))
        assert not await passwords.verify(str(password), IMPORTED + kind.hash(text)), "a str has no typed form"
    assert text not in repr(password)
    passwords.close()


async def test_a_hash_that_was_not_imported_takes_one_computation(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown user, a wrong password and one that normalisation changes take the same time.
    Law 8: no answer reveals who exists.
    """
    passwords = Passwords(concurrency=1, queue=0, cost=CHEAPEST)
    hashed, computed = await passwords.hash("correct horse"), list[str]()
    verify = argon2.verify

    def counted(password: str, stored: str) -> bool:
        computed.append("argon2")
        return bool(verify(password, stored))

    monkeypatch.setattr(argon2, "verify", counted)
    for stored in (hashed, None):
        for typed in (RAW["a superscript"], "wrong horse"):
            computed.clear()
            assert not await passwords.verify(normalise(typed), stored)
            assert ["argon2"] == computed
    computed.clear()
    assert not await passwords.verify(normalise(RAW["a superscript"]), IMPORTED + hashed)
    assert ["argon2", "argon2"] == computed, "an imported hash takes at most two"
    passwords.close()


async def test_a_password_change_accepts_the_password_as_typed(unlimited: Client, clock: MovableClock) -> None:
    """Other operations than a login accept the imported password, too, for example a change of the password."""
    text = RAW["a decomposed letter"]
    await import_lines(unlimited, clock, [record("alice", FOREIGN_HASHES["bcrypt"].hash(text))])
    admitted = (await Person(unlimited, clock, "alice", text).give_password()).json()
    await database(unlimited).write_one(  # as imported: the login has replaced it
        "UPDATE users SET password_hash = $1 WHERE username = 'alice' RETURNING id",
        IMPORTED + FOREIGN_HASHES["bcrypt"].hash(text),
    )
    changed = await unlimited.post(
        "/password",
        json={"current_password": text, "new_password": RAW["full width"] + " again"},
        headers=bearer(admitted["access_token"]),
    )
    assert 204 == changed.status_code
    assert 200 == (await Person(unlimited, clock, "alice", "correct horse again").give_password()).status_code


# ---- Names and ids


async def test_a_long_address_goes_through_every_endpoint(unlimited: Client, clock: MovableClock) -> None:
    """A name with an apostrophe, an exclamation mark and 110 characters fits tokens, headers, labels and paths."""
    assert (1, []) == await import_lines(unlimited, clock, [record(NEW_NAME.upper(), mfa="asked")])
    person = Person(unlimited, clock, NEW_NAME)
    pending = await person.pending()
    shown = await unlimited.get(
        f"/qrcode/{quote(NEW_NAME)}", headers={**bearer(pending), "accept": "application/json"}
    )
    assert 200 == shown.status_code
    assert f"Keyturn:{NEW_NAME}" == urlsplit(shown.json()["provisioning_uri"]).path.removeprefix("/").replace(
        "%21", "!"
    ).replace("%27", "'").replace("%40", "@")
    person.secret = parse_qs(urlsplit(shown.json()["provisioning_uri"]).query)["secret"][0]
    admitted = await person.give_code(mfa_token=pending)
    assert 200 == admitted.status_code
    token = admitted.json()["access_token"]
    assert NEW_NAME == claims(token)["username"]
    verified = await unlimited.get("/verify", headers=bearer(token))
    assert NEW_NAME == verified.headers["x-auth-username"]
    assert NEW_NAME == (await unlimited.get("/me", headers=bearer(token))).json()["username"]
    signed_up = await unlimited.post("/signup", json={"username": NEW_NAME, "password": "correct horse battery"})
    assert "username_taken" == signed_up.json()["code"]


@pytest.mark.parametrize(
    "sub", ["auth0|5f7c8ec7c33c6c004bbafe82", "42", "f:8a6b7c1d:jane", "!#$%&'()*+:;<=>?@[]^_`{|}~"]
)
async def test_an_imported_sub_is_in_tokens_and_answers(unlimited: Client, clock: MovableClock, sub: str) -> None:
    """The `sub` is in the token, at /me, and in the header for a gateway."""
    assert (1, []) == await import_lines(unlimited, clock, [record("alice", sub=sub)])
    admitted = (await Person(unlimited, clock, "alice").give_password()).json()
    assert sub == claims(admitted["access_token"])["sub"]
    headers = bearer(admitted["access_token"])
    assert sub == (await unlimited.get("/verify", headers=headers)).headers["x-auth-subject"]
    assert sub == (await unlimited.get("/me", headers=headers)).json()["sub"]
    assert [sub] == [json.loads(line)["sub"] for line in await export_lines(unlimited, with_secrets=False)]


async def test_the_longest_identity_fits_into_every_token(unlimited: Client, clock: MovableClock) -> None:
    """With the longest `sub`, username and roles, the access token and the device token are still read."""
    roles = [f"{n:02}" + "r" * 62 for n in range(16)]
    name = "x" * 64 + "@" + "y" * 51 + ".example.org"
    assert (1, []) == await import_lines(unlimited, clock, [record(name, sub="|" * 255, roles=roles)])
    login = {"username": name, "password": "correct horse battery staple", "remember_device": True}
    admitted = (await unlimited.post("/login", json=login)).json()
    assert roles == (await unlimited.get("/me", headers=bearer(admitted["access_token"]))).json()["roles"]
    again = await unlimited.post("/login", json={**login, "device_token": admitted["device_token"]})
    assert 200 == again.status_code


async def test_an_id_belongs_to_a_client_or_to_a_user(unlimited: Client, clock: MovableClock) -> None:
    """The first claim wins; removing a client frees its id, and a rejected user claims nothing."""
    parts = unlimited.parts
    await import_lines(unlimited, clock, [record("alice"), record("carol", sub="billing-02")])
    refusals = [record("alice", sub="billing-01"), record("alice", sub="auth0|x"), record("dave", sub="billing-02")]
    imported, refused = await import_lines(unlimited, clock, refusals)
    assert (0, 3) == (imported, len(refused))
    await add_client(unlimited, clock, "billing-01")
    assert await parts.clients.add("billing-02", (), by=OPERATOR) is None
    assert 0 == (await import_lines(unlimited, clock, [record("bob", sub="billing-01")]))[0]
    assert await parts.clients.remove("billing-01", by=OPERATOR)
    assert 1 == (await import_lines(unlimited, clock, [record("bob", sub="billing-01")]))[0]
    assert await parts.clients.add("billing-01", (), by=OPERATOR) is None


async def test_a_client_and_a_user_at_once_do_not_both_get_the_id(
    production: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """Two transactions of PostgreSQL run side by side: the later one waits for the earlier one and is refused."""
    async with open_client(production) as client:
        shared = database(client)
        async with shared.begin() as transaction:
            account = ImportedAccount(username="bob", password_hash=ANY_HASH, sub="billing-01")
            bob = await imported_accounts.add(transaction, account, clock())
            adding = asyncio.create_task(client.parts.clients.add("billing-01", (), by=OPERATOR))
            done, _ = await asyncio.wait({adding}, timeout=0.1)
            assert (True, set()) == (bob is not None, done)
        assert await adding is None


# ---- Secrets


async def test_a_weak_secret_works_until_the_next_enrolment(unlimited: Client, clock: MovableClock) -> None:
    """Its codes are accepted, the user sees that it is weak, and the next confirmed authenticator replaces it."""
    lines = [record("alice", totp_secret=OLD_SECRET), record("bob", totp_secret=OLD_SECRET * 2)]
    imported, refused = await import_lines(unlimited, clock, lines)
    assert (1, ["--allow-weak-secrets" in entry.reason for entry in refused]) == (imported, [True])
    assert 1 == (await import_lines(unlimited, clock, lines, allow_weak=True))[0]
    clock.next_step()
    alice = Person(unlimited, clock, "alice")
    token = await log_in(alice, OLD_SECRET)
    assert [(True, "Authenticator")] == await list_factors(unlimited, token)
    (weak,) = (await unlimited.get("/factors", headers=bearer(token))).json()["factors"]
    added = await unlimited.post(
        "/enable-mfa", json={"password": alice.password, "name": "Phone"}, headers=bearer(token)
    )
    new_secret = parse_qs(urlsplit(added.json()["provisioning_uri"]).query)["secret"][0]
    assert [(True, "Authenticator"), (False, "Phone")] == await list_factors(unlimited, token), (
        "the old one stays until the new one is confirmed"
    )
    clock.next_step()
    code = totp.code_at(new_secret, totp.step_at(clock()))
    confirmed = await alice.give_code(code, mfa_token=added.json()["mfa_token"])
    assert 200 == confirmed.status_code
    token = confirmed.json()["access_token"]
    assert [(False, "Phone")] == await list_factors(unlimited, token)
    events = (await unlimited.get("/events", headers=bearer(token))).json()["events"]
    removed = [event["details"] for event in events if event["event"] == "factor.removed"]
    said = {"name": "Authenticator", "reason": "weak_secret", "factor": weak["id"], "address": "203.0.113.7"}
    assert [said] == removed
    clock.next_step()
    pending = await alice.pending()
    old_code = totp.code_at(OLD_SECRET, totp.step_at(clock()))
    assert 401 == (await alice.give_code(old_code, mfa_token=pending)).status_code
    assert await log_in(alice, new_secret)
    strong = await log_in(Person(unlimited, clock, "bob"), OLD_SECRET * 2)
    assert [(False, "Authenticator")] == await list_factors(unlimited, strong)


async def test_five_weak_authenticators_leave_room_for_a_new_one(unlimited: Client, clock: MovableClock) -> None:
    """A new authenticator replaces all weak ones, so they do not count towards the maximum of a user."""
    secrets = [{"name": f"Old {n}", "totp_secret": OLD_SECRET[:-1] + digit} for n, digit in enumerate("ABCDE")]
    await import_lines(unlimited, clock, [record("alice", authenticators=secrets)], allow_weak=True)
    clock.next_step()
    alice = Person(unlimited, clock, "alice")
    token = await log_in(alice, secrets[0]["totp_secret"])
    added = await unlimited.post(
        "/enable-mfa", json={"password": alice.password, "name": "Phone"}, headers=bearer(token)
    )
    assert 200 == added.status_code
    new_secret = parse_qs(urlsplit(added.json()["provisioning_uri"]).query)["secret"][0]
    clock.next_step()
    code = totp.code_at(new_secret, totp.step_at(clock()))
    confirmed = await alice.give_code(code, mfa_token=added.json()["mfa_token"])
    assert [(False, "Phone")] == await list_factors(unlimited, confirmed.json()["access_token"])


async def test_a_user_without_a_secret_enrols_again(unlimited: Client, clock: MovableClock) -> None:
    """With `mfa: asked` and no secret, the password is not enough, and the first login shows a new QR code."""
    assert (1, []) == await import_lines(unlimited, clock, [record("alice", mfa="asked")])
    alice = Person(unlimited, clock, "alice")
    pending = (await alice.give_password()).json()
    assert (True, False) == (pending["mfa_required"], pending["mfa_confirmed"])
    headers = {**bearer(pending["mfa_token"]), "accept": "application/json"}
    alice.secret = (await unlimited.get("/qrcode/alice", headers=headers)).json()["secret"]
    assert 10 == len((await alice.give_code(mfa_token=pending["mfa_token"])).json()["recovery_codes"])


async def test_the_doctor_counts_weak_secrets(unlimited: Client, clock: MovableClock) -> None:
    """The finding also says how weak secrets are replaced."""
    parts = unlimited.parts
    deployment = Deployment(parts.settings, parts.database, parts.keys, clock)
    assert [] == await check_weak_authenticators(deployment)
    await import_lines(unlimited, clock, [record("alice", totp_secret=OLD_SECRET)], allow_weak=True)
    (finding,) = await check_weak_authenticators(deployment)
    assert ("warning", True, True) == (
        finding.verdict,
        finding.what.startswith("1 imported authenticator has"),
        "/enable-mfa" in finding.advice,
    )


async def log_in(person: Person, secret: str) -> str:
    """Log in with the code of a secret that may be too weak for pyotp, and return the access token."""
    pending = await person.pending()
    admitted = await person.give_code(totp.code_at(secret, totp.step_at(person.clock())), mfa_token=pending)
    assert 200 == admitted.status_code, admitted.text
    return str(admitted.json()["access_token"])


async def list_factors(client: AsyncClient, token: str) -> list[tuple[bool, str]]:
    found = (await client.get("/factors", headers=bearer(token))).json()["factors"]
    return [(factor["weak_secret"], factor["name"]) for factor in found]
