"""Deletion: deleting an account must require its password and its second factor, and so must restoring it."""

import asyncio
import time

from service.attack.campaign import Attack, Context, require_refusal
from service.attack.lines import Post, burst
from service.attack.people import WRONG, Person, post_until_not_busy
from service.attack.refresh import NOTICE_SECONDS
from service.attack.replay import judge, winners
from service.attack.report import Broken, NotTried
from service.attack.target import Answer

RESTORE = "/me/restore"
PARALLEL_REQUESTS = 12
MAX_WAIT_SECONDS = 10.0


async def _delete(person: Person, body: object = None, *, bearer: str | None = None, query: str = "") -> Answer:
    return await person.target.send("DELETE", f"/me{query}", body=body, bearer=bearer)


async def _restore(person: Person) -> Answer:
    """Give the password at the route of restores. Waits once: earlier failures may delay the username."""
    body = {"username": person.username, "password": person.password}
    answer = await post_until_not_busy(person.target, RESTORE, body)
    if answer.status == 429 and float(answer.headers.get("retry-after", "60")) <= MAX_WAIT_SECONDS:
        await asyncio.sleep(float(answer.headers["retry-after"]))
        answer = await post_until_not_busy(person.target, RESTORE, body)
    return answer


async def leaving_user(context: Context) -> Person:
    """Return the user with a second factor whom these attacks share. Their session is fresh for five minutes."""
    person = context.notes.get("leaving")
    if not isinstance(person, Person):
        person = context.notes["leaving"] = await context.people.make_enrolled_user()
    return person


async def without_proofs(context: Context) -> str:
    """Without the password, or with a session from before the second factor, nothing may be deleted."""
    person, target = await context.people.sign_up(mfa=False), context.target
    await person.log_in()
    if not person.access:
        raise NotTried("the attack needs a session of the password alone, which the service refuses")
    right, weak = {"password": person.password}, person.access
    tries: list[tuple[str, object, str | None, str]] = [
        ("no token", right, None, ""),
        ("no body", None, weak, ""),
        ("no password", {}, weak, ""),
        ("null as the password", {"password": None}, weak, ""),
        ("the password in the query", None, weak, f"?password={person.password}"),
        ("a wrong password", {"password": WRONG}, weak, ""),
        ("a refresh token", right, person.refresh, ""),
    ]
    for what, body, bearer, query in tries:
        require_refusal(await _delete(person, body, bearer=bearer, query=query), f"a deletion with {what}")
    person.failures += 1
    if not await person.is_logged_in():
        raise Broken("a deletion was refused but ended the session")
    person.expect_authenticator(await target.post("/enable-mfa", right, bearer=weak))
    await person.enrol()
    email = {**right, "email": f"{person.username}@attack.invalid"}
    sends: list[tuple[str, str, object]] = [("DELETE", "/me", right), ("GET", "/me/export", None),
                                            ("DELETE", "/email", right), ("POST", "/email", email)]  # fmt: skip
    for token, whose in ((weak, "a session from before the second factor"), (await person.pending(), "no code")):
        for method, path, body in sends:
            answer = await target.send(method, path, body=body, bearer=token)
            require_refusal(answer, f"{method} {path} with {whose}")
    if not await person.is_logged_in():
        raise Broken("a deletion with a weak session was refused but ended the other one")
    context.notes["leaving"] = person
    return f"{len(tries) + 2 * len(sends)} refused"


async def after_deletion(context: Context) -> str:
    """From the answer to a deletion on, no token, code or password of the account may open anything."""
    person, target = await leaving_user(context), context.target
    pending = await person.pending()
    code = await person.unused_code()
    answer = await _delete(person, {"password": person.password}, bearer=person.access)
    if not answer.is_yes:
        raise NotTried(f"DELETE /me answered {answer} to every proof")
    form = {"grant_type": "refresh_token", "refresh_token": person.refresh}
    tried = {
        "the access token at /me": await target.send("GET", "/me", bearer=person.access),
        "the refresh token": await target.send("POST", "/token", form=form),
        "a pending token with a valid code": await person.give_code(code, pending),
        "the right password": await person.give_password(),
        "the username at /signup": await target.post(
            "/signup", {"username": person.username, "password": person.password, "enable_mfa": True}
        ),
        "a second deletion": await _delete(person, {"password": person.password}, bearer=person.access),
    }
    for what, refused in tried.items():
        require_refusal(refused, f"after a deletion, {what}")
    noticed_by = time.monotonic() + NOTICE_SECONDS
    while (verified := await target.send("GET", "/verify", bearer=person.access)).is_yes:
        if time.monotonic() > noticed_by:
            raise Broken(f"{NOTICE_SECONDS:.0f} s after a deletion /verify still accepts the access token")
        await asyncio.sleep(0.2)
    require_refusal(verified, "/verify with the access token after a deletion")
    context.notes["deleted"] = person
    return f"{len(tried) + 1} refused"


async def restores(context: Context) -> str:
    """A deletion is taken back with both factors, once: the password alone yields only a pending token."""
    person = context.notes.get("deleted")
    if not isinstance(person, Person):
        raise NotTried("no account was deleted before")
    answer = await _restore(person)
    if answer.status == 401:
        return "the account is removed at once and cannot be restored"
    token = str(answer.members.get("mfa_token") or "")
    if "access_token" in answer.members:
        raise Broken("a restore with the password alone opened a session of a user with a second factor")
    if not token:
        raise NotTried(f"{RESTORE} answered {answer} to the right password")
    require_refusal(await person.give_code(person.wrong_codes(1)[0], token), "a restore with a wrong code")
    path = f"/qrcode/{person.username}"
    require_refusal(await person.target.send("GET", path, bearer=token), "a token of a restore at /qrcode")
    tokens = [token, str((await _restore(person)).members.get("mfa_token") or token)]
    code = await person.next_code()
    posts = [Post("/login-2fa", {"mfa_token": tokens[n % 2], "otp": code}) for n in range(PARALLEL_REQUESTS)]
    answers = await burst(person.target, posts)
    said = judge(answers, "one code of a restore")
    person.access = str(winners(answers)[0].members["access_token"])
    again = await person.give_code(await person.unused_code(), tokens[1])
    require_refusal(again, "the token of a restore after it was completed")
    if not await person.is_logged_in():
        raise NotTried("the session of a restore is not live")
    return said


ATTACKS = (
    Attack("A deletion without its proofs", without_proofs),
    Attack("Tokens and passwords after a deletion", after_deletion),
    Attack("A restore with less than both factors", restores),
)
