"""Replay: a single-use secret must be accepted once only, whether it is sent again at the same time or
later."""

from collections.abc import Sequence

from service.attack.campaign import Attack, Context, require_refusal
from service.attack.lines import Post, burst
from service.attack.report import Broken, NotTried
from service.attack.target import Answer

PARALLEL_REQUESTS = 32
TOKENS = 10
_FULL_WIDTH = {ord(str(digit)): 0xFF10 + digit for digit in range(10)}
_CIRCLED = dict(
    zip(map(ord, "0123456789"), "\u24ea\u2460\u2461\u2462\u2463\u2464\u2465\u2466\u2467\u2468", strict=True)
)


def winners(answers: Sequence[Answer]) -> list[Answer]:
    return [answer for answer in answers if answer.is_yes and "access_token" in answer.members]


def judge(answers: Sequence[Answer], what: str, *, also_won: int = 0) -> str:
    """Return how many requests were accepted, if exactly one was and none failed. Otherwise raise an error.

    `also_won`: accepted requests whose answers have no access token. Raises `Broken` or `NotTried`.
    """
    won = len(winners(answers)) + also_won
    if won > 1:
        raise Broken(f"{what} was accepted in {won} of {len(answers)} requests")
    failed = [answer for answer in answers if answer.is_failure]
    if failed:
        raise Broken(f"{what}: {len(failed)} of {len(answers)} requests were answered with a failure ({failed[0]})")
    if won == 0:
        raise NotTried(f"{what} was accepted in no request: {answers[0]}")
    return f"1 of {len(answers)} accepted"


async def one_pending_token(context: Context) -> str:
    person = await context.people.make_enrolled_user()
    body = {"mfa_token": await person.pending(), "otp": await person.next_code()}
    return judge(await burst(context.target, [Post("/login-2fa", body)] * PARALLEL_REQUESTS), "one code")


async def many_pending_tokens(context: Context) -> str:
    person = await context.people.make_enrolled_user()
    tokens = [await person.pending() for _ in range(TOKENS)]
    otp = await person.next_code()
    posts = [Post("/login-2fa", {"mfa_token": token, "otp": otp}) for token in tokens * 3]
    return judge(await burst(context.target, posts), f"one code under {TOKENS} pending tokens")


async def two_codes(context: Context) -> str:
    """Both codes are valid; the pending token must be accepted once."""
    person = await context.people.make_enrolled_user()
    token, codes = await person.pending(), [await person.next_code(), await person.next_code()]
    posts = [Post("/login-2fa", {"mfa_token": token, "otp": otp}) for otp in codes * (PARALLEL_REQUESTS // 2)]
    return judge(await burst(context.target, posts), "one pending token with two valid codes")


async def later(context: Context) -> str:
    """A used code, an older one and the next one in circled digits must be refused; then the next one accepted."""
    person = await context.people.make_enrolled_user()
    older = person.code(person.last_step)
    used_token, code = await person.pending(), await person.next_code()
    if not (first := await person.give_code(code, used_token)).is_yes:
        raise NotTried(f"/login-2fa answered {first} to a valid code")
    following = await person.next_code()
    body = {"username": person.username, "password": person.password, "token": code}
    tried = {
        "the code again": await person.give_code(code, await person.pending()),
        "an older code": await person.give_code(older, await person.pending()),
        "the code again, at /disable-mfa": await context.target.post("/disable-mfa", body),
        "a used pending token with the next code": await person.give_code(following, used_token),
    }
    for what, answer in tried.items():
        require_refusal(answer, what)
    fresh = await person.pending()
    for spelling, digits in (("full-width", _FULL_WIDTH), ("circled", _CIRCLED)):
        require_refusal(await person.give_code(following.translate(digits), fresh), f"a code in {spelling} digits")
    if not (last := await person.give_code(following, fresh)).is_yes:
        raise NotTried(f"the next code was refused too, so a refusal proves nothing: {last}")
    return f"{len(tried) + 2} refused, the next code accepted"


async def login_or_disable(context: Context) -> str:
    """One code must not both log in and turn the second factor off."""
    person = await context.people.make_enrolled_user()
    tokens = [await person.pending() for _ in range(4)]
    code = await person.next_code()
    off = {"username": person.username, "password": person.password, "token": code}
    posts = [Post("/login-2fa", {"mfa_token": token, "otp": code}) for token in tokens]
    answers = await burst(context.target, [*([Post("/disable-mfa", off)] * 3), *posts])
    disabled = sum(answer.is_yes for answer in answers[:3])
    if disabled:
        person.secret = ""
    return judge(answers, "one code, at /login-2fa and /disable-mfa,", also_won=disabled)


async def recovery_code(context: Context) -> str:
    person = await context.people.make_enrolled_user()
    if not person.recovery_codes:
        raise NotTried("the first code yielded no recovery codes")
    code = person.recovery_codes[0]
    tokens = [await person.pending() for _ in range(TOKENS)]
    posts = [Post("/login-2fa", {"mfa_token": token, "recovery_code": code}) for token in tokens * 2]
    said = judge(await burst(context.target, posts), "one recovery code")
    again = {"mfa_token": await person.pending(), "recovery_code": code.lower().replace("-", " ")}
    require_refusal(await context.target.post("/login-2fa", again), "the recovery code again, in another spelling")
    return said


async def old_pending_token(context: Context) -> str:
    """A pending token from before a change of password must be refused after it."""
    person = await context.people.make_enrolled_user()
    token = await person.pending()
    new = f"{person.password}-new"
    body = {"current_password": person.password, "new_password": new}
    changed = await context.target.post("/password", body, bearer=person.access)
    if not changed.is_yes:
        raise NotTried(f"/password answered {changed}")
    person.password = new
    require_refusal(
        await person.give_code(await person.next_code(), token), "a pending token from before a change of password"
    )
    return "refused"


ATTACKS = (
    Attack("One code, many requests at once", one_pending_token),
    Attack("One code under many pending tokens at once", many_pending_tokens),
    Attack("One pending token, two valid codes at once", two_codes),
    Attack("One code for a login and for /disable-mfa at once", login_or_disable),
    Attack("One recovery code, many requests at once", recovery_code),
    Attack("A used code, an older one, or other digits", later),
    Attack("A pending token from before a new password", old_pending_token),
)
