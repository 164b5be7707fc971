"""Messages to users: which event causes which, what their rows hold, when they are dropped, and what they say."""

import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from email import message_from_bytes
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import pytest

from service.clock import unix_seconds
from service.components import Components
from service.errors import ConfigurationError
from service.messages.contents import Content, Contents
from service.messages.delivery import BATCH_SIZE, MAX_RETRY_WAIT_SECONDS, Delivery
from service.messages.kinds import FRAGMENTS, KINDS_OF_EVENT, LINK_LIFETIMES, NOTICE_LIFETIME, MessageKind
from service.messages.mail import Letter, write_letter
from service.messages.outbox import MAX_HOLDING_ATTEMPTS
from service.messages.part import make_webhook
from service.messages.templates import Templates, sample
from service.messages.transport import Drop, Outcome, Refusal
from service.origin import OPERATOR, Caller
from service.sessions.sessions import Lifetimes, open_session
from service.storage.database import Transaction
from service.telemetry.event_names import EventName
from service.tokens.links import EmailCancellation, EmailConfirmation, Invitation, Link, Links, PasswordReset
from service.users import emails, invitations, users
from service.users.users import User
from tests.harness.clients import Opener
from tests.harness.devices import log_in, remember
from tests.harness.log_records import details_of as details_in
from tests.harness.mail import Post, link_in, open_post
from tests.harness.people import PASSWORD, MovableClock, sign_up
from tests.harness.webhooks import Outbox, receiving, without_background

PAGE = "https://id.example.com/account"
LANGUAGES = ("en", "de", "fr", "es")


@pytest.fixture(autouse=True)
def log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="keyturn")


@pytest.fixture
async def post(
    world: dict[str, Any], clock: MovableClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Post]:
    monkeypatch.chdir(tmp_path)  # the folder of data is ./data by default
    async with open_post(world, clock, page_url=PAGE) as opened:
        yield opened


def details_of(caplog: pytest.LogCaptureFixture, name: str) -> list[dict[str, Any]]:
    """The details of the lines with this name."""
    return [details_in(record) for record in caplog.records if record.getMessage() == name]


def letters_of(post: Post) -> list[EmailMessage]:
    """The letters that were written as files, in the order in which they were written."""
    folder = post.parts.settings.data_dir.absolute() / "mail"
    files = sorted(folder.glob("*.eml"), key=lambda file: file.stat().st_mtime_ns)
    found = [message_from_bytes(file.read_bytes(), policy=default) for file in files]
    return [letter for letter in found if isinstance(letter, EmailMessage)]


def read_link(post: Post, kind: type[Link], letter: EmailMessage) -> Link:
    token = link_in(letter).partition("=")[2]
    return Links(post.parts.sealer).read(kind, token, now=post.clock())


async def get_user(parts: Components, user_id: str) -> User:
    user = await users.find_by_id(parts.database, user_id)
    assert user is not None
    return user


async def set_address(parts: Components, user_id: str, address: str | None) -> None:
    """Set or remove the confirmed address, without an event."""
    user = await get_user(parts, user_id)
    async with parts.database.begin() as transaction:
        if address is None:
            await emails.remove(transaction, user)
        else:
            await emails.set_confirmed(transaction, user, address)


async def request_change(post: Post, user_id: str, address: str) -> None:
    user = await get_user(post.parts, user_id)
    async with post.parts.database.begin() as transaction:
        assert await emails.request(transaction, user, address, post.clock())
    await post.record(EventName.EMAIL_CHANGE_REQUESTED, user_id)


# --- what the outbox holds ---


@pytest.mark.parametrize("event", list(KINDS_OF_EVENT))
async def test_an_event_causes_the_messages_of_the_table(post: Post, event: EventName) -> None:
    """They are due in the transaction of the event, and a user without an address gets none."""
    if event is EventName.INVITATION_CREATED:
        for invitation in (await invite(post, email="carol@example.net"), await invite(post, email=None)):
            await post.record(event, None, invitation=invitation.id)
    else:
        alice = await post.add_user("alice", new_email="new@example.net")
        bob = await post.add_user("bob", email=None)
        await post.record(event, alice)
        await post.record(event, bob)
    assert [kind.value for kind in KINDS_OF_EVENT[event]] == await post.due()


async def test_other_events_cause_no_message(post: Post) -> None:
    """A logout, for example."""
    alice = await post.add_user("alice", new_email="new@example.net")
    for event in set(EventName) - KINDS_OF_EVENT.keys():
        await post.record(event, alice)
    assert [] == await post.due()


async def test_a_row_holds_no_token(post: Post) -> None:
    """It has the ids of the event and of the recipient, and the address of the event.

    Law 15: logs, metrics, traces, errors and outbox rows hold no secret.
    """
    alice = await post.add_user("alice")
    await post.record(EventName.PASSWORD_RESET_REQUESTED, alice)
    await request_change(post, alice, "new@example.net")
    invitation = (await invite(post, email="carol@example.net")).id
    await post.record(EventName.INVITATION_CREATED, None, invitation=invitation)
    rows = [dict(row) for row in await post.parts.database.fetch_all("SELECT * FROM outbox ORDER BY id")]
    texts = {value for row in rows for value in row.values() if isinstance(value, str)}
    kinds = {"password_reset", "email_changed", "email_confirmation", "invitation"}
    assert texts == {*kinds, "mail", alice, invitation, "alice@example.net", "new@example.net", "carol@example.net"}


@pytest.mark.parametrize("settings", [{"messages": "off"}, {"issuer": "https://id.example.com"}])
async def test_without_a_transport_there_is_no_row(
    embedded: dict[str, Any], clock: MovableClock, settings: dict[str, Any]
) -> None:
    """`off`, or a service that others reach and that has no mail server."""
    async with open_post(embedded, clock, **settings) as post:
        await post.record(EventName.PASSWORD_CHANGED, await post.add_user("alice"))
        assert [] == await post.due()
        assert post.parts.settings.message_transport is None


async def test_a_deleted_account_gets_no_message(post: Post) -> None:
    """Its rows go with it, and the details of its events do not wait for them."""
    await post.record(EventName.PASSWORD_RESET_REQUESTED, await post.add_user("alice"), address="203.0.113.9")
    await post.parts.administration.delete("alice", by=OPERATOR)
    assert [] == await post.due()
    rows = await post.parts.database.fetch_all("SELECT details FROM events ORDER BY id")
    assert ["{}", "{}", '{"by": "operator"}'] == [row["details"] for row in rows]


# --- links ---


async def invite(post: Post, *, email: str | None, locale: str | None = None) -> invitations.Invitation:
    """Add an invitation for a day, without its event."""
    now = post.clock()
    async with post.parts.database.begin() as transaction:
        return await invitations.add(
            transaction,
            email=email,
            locale=locale,
            roles=(),
            created_by="operator",
            now=now,
            expires_at=now + timedelta(days=1),
        )


async def test_a_reset_goes_to_the_address_with_a_link_that_is_valid(post: Post) -> None:
    """The token is in the fragment of the page's URL, for an hour from the request."""
    alice = await post.add_user("alice", credential_version=7)
    await post.record(EventName.PASSWORD_RESET_REQUESTED, alice)
    assert 1 == await post.deliver(post.deliverer())
    (letter,) = letters_of(post)
    now = unix_seconds(post.clock())
    assert "alice@example.net" == letter["To"]
    assert link_in(letter).startswith(f"{PAGE}#reset-password=ktl_")
    assert PasswordReset(now, now + 3600, alice, 7) == read_link(post, PasswordReset, letter)


async def test_a_change_of_address_notifies_both(post: Post) -> None:
    """The new address gets the confirmation, and the former one the link that refuses it."""
    alice = await post.add_user("alice", email="old@example.net")
    await request_change(post, alice, "new@example.net")
    assert 2 == await post.deliver(post.deliverer())
    letters = {letter["To"]: letter for letter in letters_of(post)}
    confirmation = read_link(post, EmailConfirmation, letters["new@example.net"])
    cancellation = read_link(post, EmailCancellation, letters["old@example.net"])
    now = unix_seconds(post.clock())
    assert (now, now + 86400) == (confirmation.issued_at, confirmation.expires_at)
    assert (now, now + 7 * 86400) == (cancellation.issued_at, cancellation.expires_at)
    assert "new@example.net" not in str(letters["old@example.net"])


async def test_an_invitation_goes_to_its_address(post: Post) -> None:
    """The link is valid as long as its row says, in the language of the invitation."""
    invitation = await invite(post, email="carol@example.net", locale="de-AT")
    await post.record(EventName.INVITATION_CREATED, None, invitation=invitation.id)
    assert 1 == await post.deliver(post.deliverer())
    (letter,) = letters_of(post)
    assert unix_seconds(post.clock()) + 86400 == read_link(post, Invitation, letter).expires_at
    assert ("carol@example.net", "de") == (letter["To"], letter["Content-Language"])


async def test_an_expired_invitation_is_not_sent(post: Post) -> None:
    """Its row says when it expires."""
    invitation = await invite(post, email="carol@example.net")
    await post.record(EventName.INVITATION_CREATED, None, invitation=invitation.id)
    post.clock.advance(seconds=86400)
    assert 1 == await post.deliver(post.deliverer())
    assert [] == letters_of(post)


# --- messages that are of no use any more ---


async def test_a_message_whose_link_has_expired_is_not_sent(post: Post, caplog: pytest.LogCaptureFixture) -> None:
    """Up to the last second it is sent; the log says that it was dropped."""
    alice = await post.add_user("alice")
    await post.record(EventName.PASSWORD_RESET_REQUESTED, alice)
    bob = await post.add_user("bob")
    post.clock.advance(seconds=1)
    await post.record(EventName.PASSWORD_RESET_REQUESTED, bob)
    post.clock.advance(seconds=3599)
    assert 2 == await post.deliver(post.deliverer())
    assert ["bob@example.net"] == [letter["To"] for letter in letters_of(post)]
    assert ["expired"] == [details["reason"] for details in details_of(caplog, "message.dropped")]
    assert [] == await post.due()


async def test_a_notice_is_not_sent_after_three_days(post: Post) -> None:
    """Nobody needs the news of last week."""
    await post.record(EventName.PASSWORD_CHANGED, await post.add_user("alice"))
    post.clock.advance(seconds=NOTICE_LIFETIME.total_seconds())
    assert 1 == await post.deliver(post.deliverer())
    assert [] == letters_of(post)


Change = Callable[[Transaction, User, datetime], Awaitable[object]]
"""A change of an account at this time, without its event."""


async def request_and_replace(transaction: Transaction, user: User, now: datetime) -> None:
    await emails.set_confirmed(transaction, user, "c@example.net")
    assert await emails.request(transaction, user, "d@example.net", now)


async def cancel_request(transaction: Transaction, user: User, now: datetime) -> None:
    assert await emails.cancel(transaction, user, requested_at=unix_seconds(now))


async def request_again(transaction: Transaction, user: User, now: datetime) -> None:
    assert await emails.request(transaction, user, "new@example.net", now + timedelta(seconds=1))


async def change_password(transaction: Transaction, user: User, now: datetime) -> None:
    assert await users.increment_credential_version(transaction, user, password_hash="hash")


async def reset_password(transaction: Transaction, user: User, now: datetime) -> None:
    assert await users.reset_password(transaction, user.id, user.credential_version, "hash", now)


async def set_password(transaction: Transaction, user: User, now: datetime) -> None:
    assert await users.set_password(transaction, user.id, "hash")


SUPERSEDED: list[tuple[EventName, Change, str]] = [
    (EventName.EMAIL_CHANGE_REQUESTED, cancel_request, "superseded"),
    (EventName.EMAIL_CHANGE_REQUESTED, request_again, "superseded"),
    (EventName.EMAIL_CHANGE_REQUESTED, request_and_replace, "superseded"),
    (EventName.EMAIL_CHANGE_REQUESTED, change_password, "superseded"),
    (EventName.EMAIL_CHANGE_REQUESTED, reset_password, "superseded"),
    (EventName.EMAIL_CHANGE_REQUESTED, set_password, "superseded"),
    (
        EventName.PASSWORD_RESET_REQUESTED,
        lambda transaction, user, _: emails.set_confirmed(transaction, user, "new@example.net"),
        "superseded",
    ),
    (
        EventName.PASSWORD_RESET_REQUESTED,
        lambda transaction, user, now: users.set_disabled(transaction, user.id, now),
        "disabled",
    ),
    (
        EventName.PASSWORD_RESET_REQUESTED,
        lambda transaction, user, _: emails.remove(transaction, user),
        "no_address",
    ),
]


@pytest.mark.parametrize(("event", "change", "reason"), SUPERSEDED)
async def test_a_message_that_is_superseded_is_not_sent(
    post: Post, caplog: pytest.LogCaptureFixture, event: EventName, change: Change, reason: str
) -> None:
    """The row of the user decides when it is sent, not when it was requested."""
    alice = await post.add_user("alice", new_email="new@example.net")
    await post.record(event, alice)
    user = await get_user(post.parts, alice)
    async with post.parts.database.begin() as transaction:
        await change(transaction, user, post.clock())
    await post.deliver(post.deliverer())
    assert [] == letters_of(post)
    assert {reason} == {details["reason"] for details in details_of(caplog, "message.dropped")}


async def test_a_disabled_account_gets_no_confirmation(post: Post, caplog: pytest.LogCaptureFixture) -> None:
    """Its link would be refused. The notice to the former address is sent, because its link cancels the request."""
    alice = await post.add_user("alice", email="old@example.net", new_email="new@example.net")
    await post.record(EventName.EMAIL_CHANGE_REQUESTED, alice)
    async with post.parts.database.begin() as transaction:
        await users.set_disabled(transaction, alice, post.clock())
    await post.deliver_all(post.deliverer())
    assert ["old@example.net"] == [letter["To"] for letter in letters_of(post)]
    assert ["disabled"] == [details["reason"] for details in details_of(caplog, "message.dropped")]


async def test_a_reset_that_removed_no_second_factor_is_not_reported(post: Post) -> None:
    """The user had none."""
    alice, bob = await post.add_user("alice"), await post.add_user("bob")
    await post.record(EventName.MFA_RESET, alice, factors=0)
    await post.record(EventName.MFA_RESET, bob, factors=1)
    await post.deliver_all(post.deliverer())
    assert ["bob@example.net"] == [letter["To"] for letter in letters_of(post)]


async def test_a_message_of_a_former_version_without_its_address_is_not_sent(
    post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    """A new password once removed a requested address and left the time of the request."""
    alice = await post.add_user("alice", new_email="new@example.net")
    await post.record(EventName.EMAIL_CHANGE_REQUESTED, alice)
    async with post.parts.database.begin() as transaction:
        await transaction.execute("UPDATE users SET new_email = NULL")
    await post.deliver_all(post.deliverer())
    assert [] == letters_of(post)
    assert {"superseded"} == {details["reason"] for details in details_of(caplog, "message.dropped")}


class Defective:
    """A carrier with a defect, which the messages to the users with these names meet."""

    def __init__(self, names: set[str]) -> None:
        self._names = names
        self.sent: list[str] = []

    async def carry(self, letter: Letter) -> Outcome:
        if letter.to.partition("@")[0] in self._names:
            raise RuntimeError
        self.sent.append(letter.to)
        return None

    async def try_once(self, letter: Letter) -> tuple[Refusal | None, str]:
        raise NotImplementedError

    async def end_round(self) -> None: ...

    def name_of(self, letter_id: str) -> None: ...


class Filtering(Defective):
    """A mail server that refuses for a time what is sent to these users, and letters with a forbidden text."""

    forbidden = b"GTUBE"

    async def carry(self, letter: Letter) -> Outcome:
        if letter.to.partition("@")[0] in self._names:
            return Refusal("status", 450, is_of_message=True)
        if self.forbidden in letter.content:
            return Drop("refused", 554, is_of_content=True)
        self.sent.append(letter.to)
        return None


async def test_messages_that_are_refused_again_and_again_do_not_hold_up_those_of_others(post: Post) -> None:
    """A hundred of them are due, which are more than some rounds; a new one is sent in the next round."""
    names = {f"user{n:02}" for n in range(100)}
    alice = await post.add_user("alice")
    for name in sorted(names):
        await post.record(EventName.PASSWORD_CHANGED, await post.add_user(name))
    carrier = Filtering(names)
    delivery = post.deliverer(carrier)
    for _ in range(20):
        await post.deliver(delivery)
        post.clock.advance(seconds=30)
    assert 100 == len(await post.due())
    await post.record(EventName.PASSWORD_CHANGED, alice)
    assert 1 == await post.deliver(delivery)
    assert ["alice@example.net"] == carrier.sent


async def test_a_refused_message_holds_up_the_next_one_to_its_address_for_six_attempts(post: Post) -> None:
    """Then a link that is valid for an hour still arrives."""
    carrier = Filtering({"alice"})
    delivery = post.deliverer(carrier)
    alice = await post.add_user("alice")
    await post.record(EventName.PASSWORD_CHANGED, alice)
    for _ in range(MAX_HOLDING_ATTEMPTS - 2):
        await post.deliver(delivery)
        post.clock.advance(seconds=MAX_RETRY_WAIT_SECONDS)
    await post.record(EventName.PASSWORD_RESET_REQUESTED, alice)
    for expected in ([MAX_HOLDING_ATTEMPTS - 1, 0], [MAX_HOLDING_ATTEMPTS, 1]):
        await post.deliver(delivery)
        attempts = await post.parts.database.fetch_all("SELECT attempts FROM outbox ORDER BY id")
        assert expected == [row["attempts"] for row in attempts]
        post.clock.advance(seconds=MAX_RETRY_WAIT_SECONDS)


async def test_a_notice_that_a_filter_refuses_is_sent_without_what_a_caller_chose(post: Post) -> None:
    """Somebody with the password could otherwise keep the news of their login from the user."""
    alice = await post.add_user("alice")
    await post.record(EventName.FACTOR_ADDED, alice, name="GTUBE")
    carrier = Filtering(set())
    assert 1 == await post.deliver(post.deliverer(carrier))
    assert ["alice@example.net"] == carrier.sent


async def test_messages_that_meet_a_defect_do_not_hold_up_those_of_others(post: Post) -> None:
    """They fill a round, and wait like messages that were refused."""
    names = {f"user{n:02}" for n in range(BATCH_SIZE)}
    for name in (*sorted(names), "alice"):
        await post.record(EventName.PASSWORD_CHANGED, await post.add_user(name))
    carrier = Defective(names)
    delivery = post.deliverer(carrier)
    with pytest.raises(RuntimeError):
        await post.deliver(delivery)
    assert [] == carrier.sent
    assert 1 == await post.deliver(delivery)
    assert ["alice@example.net"] == carrier.sent
    post.clock.advance(seconds=2)
    with pytest.raises(RuntimeError):
        await post.deliver(delivery)
    assert BATCH_SIZE == len(await post.due())


@pytest.mark.parametrize("event", [EventName.PASSWORD_CHANGED, EventName.PASSWORD_RESET])
async def test_a_link_of_a_reset_is_not_sent_after_a_new_password(post: Post, event: EventName) -> None:
    """The message was late. A later request is sent."""
    alice = await post.add_user("alice", locale="en")
    await post.record(EventName.PASSWORD_RESET_REQUESTED, alice)
    await post.record(event, alice)
    await post.record(EventName.PASSWORD_RESET_REQUESTED, alice)
    await post.deliver_all(post.deliverer())
    kinds = [letter["Message-ID"].split("@")[0].split("_", 3)[3] for letter in letters_of(post)]
    assert sorted(kinds) == ["password_changed", "password_reset"]


async def test_a_message_of_the_version_before_goes_to_the_address_of_the_account(post: Post) -> None:
    """Its row in the outbox has no address."""
    alice = await post.add_user("alice")
    await post.record(EventName.PASSWORD_RESET_REQUESTED, alice)
    await request_change(post, alice, "new@example.net")
    async with post.parts.database.begin() as transaction:
        await transaction.execute("UPDATE outbox SET address = NULL")
    await post.deliver_all(post.deliverer())
    assert ["alice@example.net", "alice@example.net", "new@example.net"] == [mail["To"] for mail in letters_of(post)]


async def test_a_notice_goes_to_the_address_that_the_account_had(post: Post) -> None:
    """An attacker who changes password and address does not get the notices instead of the user."""
    alice = await post.add_user("alice", email="alice@example.net", locale="en")
    events = (EventName.PASSWORD_CHANGED, EventName.EMAIL_CHANGED, EventName.EMAIL_REMOVED)
    for event, address in zip(events, ("eve@example.org", "eve@example.com", "eve@example.net"), strict=True):
        await post.record(event, alice)
        await set_address(post.parts, alice, address)
    await post.deliver_all(post.deliverer())
    letters = [(letter["To"], letter["Subject"]) for letter in letters_of(post)]
    changed = "The e-mail address of your account was changed"
    # Messages to several addresses do not wait for each other: their order is open.
    assert sorted(letters) == [
        ("alice@example.net", "Your password was changed"),
        ("eve@example.com", changed),
        ("eve@example.org", changed),
    ]


@pytest.mark.parametrize("is_used", [True, False])
async def test_an_invitation_that_was_used_or_revoked_is_not_sent(post: Post, is_used: bool) -> None:
    """Its link would be refused."""
    invitation = await invite(post, email="carol@example.net")
    await post.record(EventName.INVITATION_CREATED, None, invitation=invitation.id)
    carol = await post.add_user("carol", email=None)
    async with post.parts.database.begin() as transaction:
        if is_used:
            assert await invitations.consume(transaction, invitation.id, user_id=carol, now=post.clock())
        else:
            assert await invitations.revoke(transaction, invitation.id)
    assert 1 == await post.deliver(post.deliverer())
    assert [] == letters_of(post)


async def test_the_log_has_no_address_and_no_link(post: Post, caplog: pytest.LogCaptureFixture) -> None:
    """It names the kind, the event and the user, and the file."""
    alice = await post.add_user("alice")
    await post.record(EventName.PASSWORD_RESET_REQUESTED, alice)
    await post.deliver(post.deliverer())
    (details,) = details_of(caplog, "message.sent")
    assert {"kind", "event_id", "sub", "attempts", "file"} == details.keys()
    assert ("password_reset", alice, 1) == (details["kind"], details["sub"], details["attempts"])
    file = Path(str(details["file"]))
    assert (0o600, 0o700) == modes_of(file)
    assert "ktl_" not in str(details)
    assert "@" not in file.name


def modes_of(file: Path) -> tuple[int, int]:
    """The modes of a file and of its folder."""
    return file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777


# --- logins on new devices ---


async def notified_logins(post: Post, logins: list[tuple[str, int]], *, days: int = 0) -> list[str]:
    """Record logins with these user agents and after these seconds; return the ids that a letter reports.

    They begin some days after the sign-up.
    """
    alice = await post.add_user("alice", locale="en")
    post.clock.advance(days=days)
    user, lifetimes = await get_user(post.parts, alice), Lifetimes(timedelta(minutes=10), timedelta(minutes=10))
    for user_agent, after in logins:
        async with post.parts.database.begin() as transaction:
            session = await open_session(
                transaction,
                user,
                amr=("pwd",),
                caller=Caller("::1", user_agent),
                lifetimes=lifetimes,
                now=post.clock() + timedelta(seconds=after),
            )
            assert session is not None
        await post.record(EventName.LOGIN_ADMITTED, alice, sid=session.id)
    delivery = post.deliverer()
    while await post.deliver(delivery):
        pass
    return [letter["Message-ID"] for letter in letters_of(post)]


async def test_a_login_after_a_long_time_is_reported(post: Post) -> None:
    """The events of earlier logins are swept by then: the age of the account says that this is not the first one."""
    assert 1 == len(await notified_logins(post, [("Firefox", 0)], days=91))


async def test_a_login_with_a_new_user_agent_is_reported(post: Post) -> None:
    """The first login is not, and one whose user agent an earlier session had is not."""
    found = await notified_logins(post, [("Firefox", 0), ("Firefox", 1), ("Chrome", 2)])
    assert 1 == len(found)
    body = letters_of(post)[0].get_body(("plain",))
    assert body is not None
    assert "Chrome" in body.get_content()


async def test_a_login_with_a_code_on_a_known_device_is_not_reported(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """The pending token carries what the device token proved; a token of another user proves nothing."""
    async with open_client(world) as client:
        alice, bob = await sign_up(client, clock, "alice"), await sign_up(client, clock, "bob", mfa=False)
        await alice.confirm()
        clock.next_step()
        known = await remember(alice)
        await set_address(client.parts, (await client.parts.administration.get("alice")).id, "alice@example.com")
        of_bob = (await log_in(bob, remember_device=True)).json()["device_token"]
        client.headers["User-Agent"] = "Browser/2"
        for token, reported in ((known, 0), (of_bob, 1), ("ktd_x", 2)):
            clock.next_step()
            pending = (await log_in(alice, device_token=token)).json()["mfa_token"]
            assert 200 == (await alice.give_code(mfa_token=pending)).status_code
            assert reported == (await due_kinds(client.parts)).count("new_device"), token


async def test_of_two_new_logins_in_one_second_one_is_reported(post: Post) -> None:
    """A second login right after the first one does not hide it."""
    assert 1 == len(await notified_logins(post, [("Firefox", 0), ("Chrome", 1), ("Chrome", 1)]))


async def test_a_login_of_a_user_without_an_address_costs_nothing(
    embedded: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """Neither does one on a known device: there is no row."""
    async with open_client(embedded) as client:
        alice = await sign_up(client, clock, "alice", mfa=False)
        known = await client.post("/login", json={"username": "alice", "password": PASSWORD, "remember_device": True})
        assert [] == await due_kinds(client.parts)
        await set_address(client.parts, (await client.parts.administration.get("alice")).id, "alice@example.net")
        token = known.json()["device_token"]
        await client.post("/login", json={"username": "alice", "password": PASSWORD, "device_token": token})
        assert [] == await due_kinds(client.parts)
        await alice.give_password()
        assert ["new_device"] == await due_kinds(client.parts)


async def due_kinds(parts: Components) -> list[str]:
    return [row["kind"] for row in await parts.database.fetch_all("SELECT kind FROM outbox")]


# --- the host application sends the mail ---


async def test_the_webhook_gets_what_a_message_needs(world: dict[str, Any], clock: MovableClock) -> None:
    """It is signed like an event, follows its event, and has an id of its own; a notice has no link."""
    with receiving() as receiver:
        more = {"webhook_url": receiver.url, "messages": "webhook", "page_url": PAGE}
        async with without_background({**world, **more}, clock) as parts:
            post, outbox = Post(parts, clock), Outbox(parts, receiver, clock)
            alice = await post.add_user("alice", locale="fr")
            await post.record(EventName.PASSWORD_RESET_REQUESTED, alice)
            await post.record(EventName.MFA_DISABLED, alice)
            contents = Contents(parts.database, Links(parts.sealer), page_url=PAGE)
            transport = make_webhook(parts.settings, contents)
            assert transport is not None
            delivery = Delivery(parts.database, transport, ticks=outbox.ticks)
            while await outbox.deliver(delivery):
                pass
            reset, notice = [body for body in receiver.accepted if body["type"].startswith("message.")]
            kinds = [body["type"] for body in receiver.accepted]
            expected = {"to": "alice@example.net", "sub": alice, "username": "alice", "locale": "fr"}
            link, token = reset["data"].pop("link"), reset["data"].pop("token")
            assert alice == Links(parts.sealer).read(PasswordReset, token, now=clock()).sub
    assert ["signup", "password.reset_requested", "message.password_reset"] == kinds[:3]
    assert ["mfa.disabled", "message.mfa_disabled"] == kinds[3:]
    assert f"{PAGE}#reset-password={token}" == link
    assert {**expected, "address": "203.0.113.7", "expires_at": unix_seconds(clock()) + 3600} == reset["data"]
    assert {**expected, "address": "203.0.113.7"} == notice["data"]
    assert len({body["id"] for body in receiver.accepted}) == len(receiver.accepted)
    assert reset["id"].startswith("msg_")


# --- templates ---


def templates(folder: Path | None = None, locale: str = "en", *, page: str = PAGE) -> Templates:
    return Templates(folder=folder, product="Example", locale=locale, page_url=page)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", MessageKind)
@pytest.mark.parametrize("has_details", [True, False])
@pytest.mark.parametrize("has_link", [True, False])
def test_every_kind_exists_in_every_language(
    kind: MessageKind, language: str, has_details: bool, has_link: bool
) -> None:
    """Text and HTML have the link exactly once, the time in UTC or its end, and no line of text is too long."""
    if kind in FRAGMENTS and kind is not MessageKind.EMAIL_CHANGED and not has_link:
        return  # always with a link
    content = sample(kind, PAGE, has_details=has_details, has_link=has_link, locale=language)
    rendered = templates().render(content)
    assert language == rendered.language
    assert 0 < len(rendered.subject) <= 78
    assert "UTC" in rendered.text
    assert "{" not in rendered.text + rendered.subject + rendered.html.partition("<body")[2]
    assert "None" not in rendered.text
    assert max(len(line) for line in rendered.text.splitlines() if "https:" not in line) <= 76
    if content.link is not None:
        assert 1 == rendered.text.count(content.link)
        assert 1 == rendered.html.count(f'href="{content.link}"')
        assert 1 == rendered.html.count(f">{content.link}<")
    if has_details and kind is not MessageKind.INVITATION and kind is not MessageKind.EMAIL_CONFIRMATION:
        assert "203.0.113.7" in rendered.text
        assert "203.0.113.7" in rendered.html


def test_each_kind_differs_between_languages() -> None:
    """No template was left in English."""
    for kind in MessageKind:
        texts = {templates().render(sample(kind, PAGE, locale=language)).text for language in LANGUAGES}
        assert len(LANGUAGES) == len(texts), kind


@pytest.mark.parametrize(
    ("locale", "language"),
    [("de", "de"), ("DE-at", "de"), ("fr-CA-x-y", "fr"), ("it", "es"), (None, "es"), ("../../etc", "es"), ("", "es")],
)
def test_the_language_is_the_nearest_that_exists(locale: str | None, language: str) -> None:
    """The longest prefix of the user's tag, else the operator's default."""
    assert language == templates(locale="es-MX").choose_language(MessageKind.PASSWORD_RESET, locale)


HOSTILE = [
    "a\r\nBcc: victim@example.net",
    "a\x00b",
    "\u202egnp.exe",
    "a\u2028b\u0085c",
    '<script>alert(1)</script><img src=x onerror="x">',
    "https://evil.example/reset",
    "WWW.evil.example",
    "_www.evil.example",
    "{{ link }}{% include 'x' %}",
    "\U0001f600" * 300,
    "- Time: 1970\n\n- IP address: 0.0.0.0",
]


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("kind", [MessageKind.NEW_DEVICE, MessageKind.FACTOR_ADDED, MessageKind.PASSWORD_RESET])
def test_hostile_values_change_neither_headers_nor_markup(kind: MessageKind, value: str) -> None:
    """Names and user agents are on one line, in their order, shortened, escaped, and not a link."""
    plain = sample(kind, PAGE)
    content = Content(
        **{name: getattr(plain, name) for name in ("id", "kind", "occurred_at", "to", "link", "token", "expires_at")},
        sub="s", username=value, locale=value, details={"user_agent": value, "factor": value, "address": value},
    )  # fmt: skip
    rendered = templates().render(content)
    letter = message_from_bytes(
        write_letter(content, rendered, sender=Address("Example", "noreply", "example.com")).content, policy=default
    )
    assert isinstance(letter, EmailMessage)
    names = ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "Content-Language", "Content-Type"]
    assert sorted([*names, "MIME-Version"]) == sorted(letter.keys())
    assert "alice@example.com" == letter["To"]
    for part, text in (("plain", rendered.text), ("html", rendered.html)):
        body = letter.get_body((part,))
        assert body is not None
        assert text.splitlines() == body.get_content().splitlines()
        assert not re.search(r"[\x00\u202e\u2028\u0085]", text)
        assert not re.search(r"https://evil|www\.evil", text, re.IGNORECASE)
    assert "<script>" not in rendered.html
    assert "<img" not in rendered.html
    assert plain.link is None or 1 == rendered.text.count(plain.link)


def test_an_operators_templates_come_first_and_add_languages(tmp_path: Path) -> None:
    """The HTML follows the text, or a template of its own."""
    (tmp_path / "de").mkdir()
    (tmp_path / "pt-BR").mkdir()
    (tmp_path / "de" / "password_changed.txt").write_text("Neu bei {{ product }}\n\nHallo <b>{{ username }}</b>\n")
    (tmp_path / "pt-BR" / "password_reset.txt").write_text("Nova senha\n\nDefinir:\n{{ link }}\n")
    (tmp_path / "pt-BR" / "password_reset.html").write_text("<p>{{ username }} {{ link }}</p>")
    made = templates(tmp_path)
    made.check()
    changed = made.render(sample(MessageKind.PASSWORD_CHANGED, PAGE, locale="de"))
    assert ("Neu bei Example", "Hallo <b>alice</b>\n") == (changed.subject, changed.text)
    assert "&lt;b&gt;alice" in changed.html
    reset = made.render(sample(MessageKind.PASSWORD_RESET, PAGE, locale="pt-br"))
    assert f"<p>alice {PAGE}#reset-password=ktl_example</p>" == reset.html
    assert "en" == made.render(sample(MessageKind.NEW_DEVICE, PAGE, locale="pt-BR")).language


MISTAKES = [
    ("de/password_changed.txt", "Betreff\n\n{{ usename }}", "usename"),
    ("de/password_changed.txt", "Betreff\n\n{% if username %}", "line"),
    ("de/password_changed.txt", "Betreff\n\n{{ link }}", "link"),
    ("de/password_changed.txt", "\n\n", "subject"),
    ("de/password_changed.txt", "Betreff\n\n{{ 1 / 0 }}", "ZeroDivisionError"),
    ("de/password_changed.txt", "Betreff\n\n{{ ''.__class__.__mro__ }}", "unsafe"),
    ("de/password_reset.txt", "Betreff\n\nkein Verweis", "link"),
    ("de/password_reset.html", "<p></p>", "link"),
    ("de/_details.txt", "{{ adress }}", "adress"),
    ("layout.html", "{{ blocs }}", "blocs"),
    ("de/pasword_reset.txt", "Betreff", "not the name"),
    ("password_reset.txt", "Betreff", "not the name"),
    ("de/password_changed.txt", b"\xff\xfe", "UTF-8"),
    ("de/password_reset.txt", "Betreff\n", "no text"),
    ("de/password_changed.txt", "Betreff\n\n  \n", "no text"),
    ("DE/password_reset.txt", "Betreff\n\n{{ link }}", "not used"),
    ("it/password_reset.html", "<p>{{ link }}</p>", "not used"),
    ("it/_details.txt", "{{ address }}", "not used"),
]


@pytest.mark.parametrize(("name", "text", "reason"), MISTAKES)
def test_a_mistake_in_a_template_stops_the_start(
    tmp_path: Path, embedded: dict[str, Any], name: str, text: str | bytes, reason: str
) -> None:
    """The sentence has the name of the file and the reason."""
    folder = tmp_path / "templates"
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigurationError, match="KEYTURN_TEMPLATES_DIR") as refused:
        templates(folder).check()
    assert reason in str(refused.value)
    assert name.rpartition("/")[2] in str(refused.value) or name.startswith(("layout", "de/_details"))


def test_a_page_whose_address_html_must_escape_is_found_in_a_template(tmp_path: Path) -> None:
    """The template has `&amp;` where the link has `&`."""
    (tmp_path / "de").mkdir()
    (tmp_path / "de" / "password_reset.html").write_text('<a href="{{ link }}">{{ subject }}</a>')
    templates(tmp_path, page="https://example.com/a&b").check()


def test_a_language_without_templates_is_refused() -> None:
    """So is a folder that does not exist."""
    with pytest.raises(ConfigurationError, match="KEYTURN_LOCALE"):
        templates(locale="it").check()
    with pytest.raises(ConfigurationError, match="KEYTURN_TEMPLATES_DIR"):
        templates(Path("/nowhere/at/all")).check()


def test_every_kind_with_a_link_has_a_lifetime() -> None:
    """That of an invitation is in its row."""
    assert FRAGMENTS.keys() == LINK_LIFETIMES.keys() | {MessageKind.INVITATION}
    assert all(timedelta(0) < lifetime for lifetime in LINK_LIFETIMES.values())
