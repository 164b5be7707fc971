"""Forgery: hundreds of tokens that the service did not issue.

Each must grant nothing, and none may make the service fail. The service must refuse each of them, except at
`/revoke`, which may answer 200 to an unknown token (RFC 7009 section 2.2) and must then change nothing.
"""

from collections.abc import Iterable

from service.attack.campaign import Attack, Context, require_refusal
from service.attack.forged import Forger, encode
from service.attack.report import Broken, NotTried
from service.attack.target import JWKS

_AT = ("/verify", "/me")


async def _forger(context: Context) -> Forger:
    """Make a forger from an access token of the attacker's own session."""
    keys = (await context.target.send("GET", JWKS)).members.get("keys", [])
    password_user = await context.people.password_user()
    forger = Forger(password_user.access, [key for key in keys if isinstance(key, dict)])
    for path in _AT:
        if not (answer := await context.target.send("GET", path, bearer=password_user.access)).is_yes:
            raise NotTried(f"{path} answered {answer} to the genuine token, so a refusal proves nothing")
    return forger


async def _try_all(context: Context, forged: Iterable[tuple[str, str]]) -> str:
    count = 0
    for what, token in forged:
        for path in _AT:
            require_refusal(await context.target.send("GET", path, bearer=token), f"at {path}: {what}")
        count += 1
    return f"{count} tokens at {len(_AT)} routes refused"


async def unsigned(context: Context) -> str:
    return await _try_all(context, (await _forger(context)).unsigned())


async def public_keys_as_secrets(context: Context) -> str:
    return await _try_all(context, (await _forger(context)).public_keys_as_secrets())


async def own_keys(context: Context) -> str:
    return await _try_all(context, (await _forger(context)).own_keys())


async def signatures(context: Context) -> str:
    return await _try_all(context, (await _forger(context)).signatures())


async def changed(context: Context) -> str:
    return await _try_all(context, (await _forger(context)).changed())


async def malformed(context: Context) -> str:
    return await _try_all(context, (await _forger(context)).malformed())


async def pending(context: Context) -> str:
    """Forged pending tokens must be refused, each with a code that is valid then, and must not use that code up.

    The last code was sent with at least one forged token before it is sent with the genuine one.
    """
    enrolled_user = await context.people.enrolled_user()
    keys = (await context.target.send("GET", JWKS)).members.get("keys", [])
    genuine = await enrolled_user.pending()
    forged = list(Forger(genuine, keys).all())
    for what, token in forged:
        code = await enrolled_user.unused_code()  # on a slow target an earlier one may have expired
        require_refusal(await enrolled_user.give_code(code, token), f"at /login-2fa: {what}")
    code = await enrolled_user.next_code()
    what, token = forged[-1]
    require_refusal(await enrolled_user.give_code(code, token), f"at /login-2fa: {what}")
    if not (answer := await enrolled_user.give_code(code, genuine)).is_yes:
        raise Broken(f"forged pending tokens used up the genuine one or its code, which was then answered {answer}")
    return f"{len(forged)} tokens refused, the genuine one accepted with a code sent before"


async def refresh(context: Context) -> str:
    """A forged refresh token must be refused and change nothing: it must not end the session that it names."""
    password_user = await context.people.password_user()
    genuine, target = password_user.refresh, context.target
    prefix, body = genuine[:4], genuine[4:]
    flipped = [body[:at] + ("A" if body[at] != "A" else "B") + body[at + 1 :] for at in range(0, len(body) - 1, 3)]
    forged = [prefix + text for text in flipped]
    forged += [body, f"{genuine}=", f"{genuine}A", genuine[:-4], genuine.upper(), genuine.lower(), prefix, "", "null"]
    forged += [f" {genuine}", f"{genuine}\0", f"{genuine}\n", genuine * 2, prefix + encode(bytes(52)), "A" * 9000]
    for number, token in enumerate(forged):
        form = {"grant_type": "refresh_token", "refresh_token": token}
        require_refusal(await target.send("POST", "/token", form=form), f"forged refresh token {number}")
        answer = await target.send("POST", "/revoke", form={"token": token or "none"})
        if answer.is_failure:  # RFC 7009 section 2.2: an unknown token is answered with 200
            raise Broken(f"forged refresh token {number} at /revoke was answered with a failure ({answer})")
    if not await password_user.is_logged_in():
        raise Broken("a forged refresh token ended the session")
    return f"{len(forged)} tokens refused, the session is still live"


ATTACKS = (
    Attack("alg none, unknown, or missing", unsigned),
    Attack("HMAC with a public key as its secret", public_keys_as_secrets),
    Attack("The attacker's own key: jwk, jku, x5u, kid", own_keys),
    Attack("Signatures of zeros, cut, or stripped", signatures),
    Attack("Other claims, typ, crit under a genuine signature", changed),
    Attack("Malformed, huge and ambiguous tokens", malformed),
    Attack("Forged pending tokens with a valid code", pending),
    Attack("Forged refresh tokens", refresh),
)
