"""Confusion: a good token in the hands, at the route or in the place that it is not for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.attack.campaign import Attack, Context, require_refusal
from service.attack.people import Person
from service.attack.report import Broken, NotTried
from service.attack.target import Target

OPENAPI_PATH = "/openapi.json"
_SECRETS = ("access_token", "refresh_token", "recovery_codes", "provisioning_uri", "device_token")


@dataclass(frozen=True)
class ProtectedRoute:
    """A route that takes an access token, with a body that is right but for the token."""

    method: str
    path: str
    body: Mapping[str, object] | None = None

    async def probe(self, target: Target, token: str) -> None:
        """Raises `Broken` unless it is refused for its token: a conflict would mean that it was believed."""
        answer = await target.send(self.method, self.path, body=self.body, bearer=token)
        what = f"{self.method} {self.path.split('?')[0]}"
        require_refusal(answer, what)
        if answer.status == 409:
            raise Broken(f"{what} believed the token and refused for another reason ({answer})")


async def password_alone(context: Context) -> str:
    """Of somebody with a second factor, proved or asked for: nothing but a pending token."""
    for who, person in (
        ("a proved", await context.people.enrolled_user()),
        ("an asked for", await context.people.unconfirmed_user()),
    ):
        answer = await person.give_password()
        if not answer.is_yes:
            raise NotTried(f"the right password was answered {answer}")
        leaked = [name for name in _SECRETS if answer.members.get(name)]
        if leaked:
            raise Broken(f"the password alone, with {who} second factor, was answered with {', '.join(leaked)}")
    return "a pending token, nothing else"


async def bearer_routes(context: Context) -> str:
    enrolled_user = await context.people.enrolled_user()
    protected_routes = await _protected_routes(context.target, enrolled_user)
    tokens = await _not_access(context)
    for what, token in tokens.items():
        for route in protected_routes:
            try:
                await route.probe(context.target, token)
            except Broken as evidence:
                raise Broken(f"{what}: {evidence}") from None
    if not await enrolled_user.is_logged_in():
        raise Broken("one of the wrong tokens ended a session, though it was refused")
    return f"{len(tokens)} kinds at {len(protected_routes)} routes refused"


async def pending_routes(context: Context) -> str:
    """What is no pending token of the right person, with a good code of his."""
    enrolled_user, password_user, unconfirmed_user = (
        await context.people.enrolled_user(),
        await context.people.password_user(),
        await context.people.unconfirmed_user(),
    )
    code, target = await enrolled_user.unused_code(), context.target
    device = await _device_token(password_user)
    wrong = {
        "an access token": enrolled_user.access,
        "a refresh token": enrolled_user.refresh,
        "a device token": device,
    }
    for what, token in wrong.items():
        require_refusal(await enrolled_user.give_code(code, token), f"{what} as mfa_token at /login-2fa")
        require_refusal(
            await target.post("/login-2fa", {"otp": code}, bearer=token), f"{what} as bearer at /login-2fa"
        )
        for name in (enrolled_user.username, unconfirmed_user.username):
            require_refusal(await target.send("GET", f"/qrcode/{name}", bearer=token), f"{what} at /qrcode")
    if unconfirmed_user.secret:
        shown = await target.send("GET", f"/qrcode/{unconfirmed_user.username}", bearer=unconfirmed_user.mfa_token)
        if not shown.is_yes:
            raise NotTried(f"/qrcode was answered {shown} to the right token, so a refusal proves nothing")
    return f"{len(wrong)} kinds at 2 routes refused"


async def oauth_routes(context: Context) -> str:
    enrolled_user, password_user, target = (
        await context.people.enrolled_user(),
        await context.people.password_user(),
        context.target,
    )
    tokens = {name: token for name, token in (await _not_access(context)).items() if name != "a refresh token"}
    tokens["an access token"] = enrolled_user.access
    for what, token in tokens.items():
        form = {"grant_type": "refresh_token", "refresh_token": token}
        require_refusal(await target.send("POST", "/token", form=form), f"{what} as refresh_token")
        if what != "an access token":
            await target.send("POST", "/revoke", form={"token": token})  # answers 200 whatever it was (RFC 7009)
    if not await enrolled_user.is_logged_in():
        raise Broken("/revoke ended a session for a token that is none of it")
    grants: list[dict[str, str]] = [
        {"grant_type": "password", "username": password_user.username, "password": password_user.password},
        {"grant_type": "client_credentials", "client_id": "keyturn"},
        {
            "grant_type": "client_credentials",
            "client_id": password_user.username,
            "client_secret": password_user.password,
        },
        {"grant_type": "authorization_code", "code": password_user.access},
        {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": password_user.access},
        {"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", "subject_token": password_user.access},
        {"grant_type": "refresh_token", "refresh_token": password_user.refresh, "scope": "admin"},
    ]
    for grant in grants:
        require_refusal(await target.send("POST", "/token", form=grant), f"grant_type={grant['grant_type']}")
    asked = await target.send(
        "POST", "/introspect", form={"token": enrolled_user.access}, bearer=password_user.access
    )
    require_refusal(asked, "/introspect by a person's access token")
    own = await target.send("POST", "/introspect", form={"token": enrolled_user.access, "client_id": "keyturn"})
    require_refusal(own, "/introspect without a secret")
    return f"{len(tokens) + len(grants) + 2} refused"


async def wrong_places(context: Context) -> str:
    """An access token counts in one Authorization header (RFC 6750 section 2.1), not where it would be logged."""
    password_user, target = await context.people.password_user(), context.target
    good, pending = password_user.access, (await context.people.unconfirmed_user()).mfa_token
    places: dict[str, list[tuple[str, str]]] = {
        "no token": [],
        "a cookie": [("Cookie", f"access_token={good}; token={good}; session={good}")],
        "a header of its own": [("X-Access-Token", good), ("X-Auth-Token", good), ("X-Forwarded-Access-Token", good)],
        "another scheme": [("Authorization", f"Basic {good}")],
        "no scheme": [("Authorization", good)],
        "two headers": [("Authorization", f"Bearer {good}"), ("Authorization", f"Bearer {pending}")],
        "two headers, the good one last": [
            ("Authorization", f"Bearer {pending}"),
            ("Authorization", f"Bearer {good}"),
        ],
        "two in one header": [("Authorization", f"Bearer {pending}, Bearer {good}")],
        "claims of a gateway": [
            ("X-Auth-Subject", password_user.username),
            ("X-Auth-Username", password_user.username),
        ],
        "a proxy's word": [("Remote-User", password_user.username), ("X-Forwarded-User", password_user.username)],
    }
    for path in ("/me", "/verify"):
        for what, headers in places.items():
            require_refusal(await target.send("GET", path, headers=headers), f"{path} with {what}")
        for query in (f"access_token={good}", f"token={good}", f"bearer={good}"):
            require_refusal(await target.send("GET", f"{path}?{query}"), f"{path} with the token in the query")
    require_refusal(
        await target.send("POST", "/verify", form={"access_token": good}), "/verify with the token in a form"
    )
    return f"{2 * len(places) + 7} refused"


async def foreign_objects(context: Context) -> str:
    """A code, a picture, a session and a factor of somebody else."""
    enrolled_user, password_user, unconfirmed_user = (
        await context.people.enrolled_user(),
        await context.people.password_user(),
        await context.people.unconfirmed_user(),
    )
    target, pending = context.target, await enrolled_user.pending()
    require_refusal(
        await enrolled_user.give_code(await unconfirmed_user.unused_code(), pending),
        "somebody else's code under a pending token",
    )
    pictures = [
        (enrolled_user, unconfirmed_user.mfa_token),
        (unconfirmed_user, pending),
        (password_user, unconfirmed_user.mfa_token),
        (enrolled_user, pending),
    ]
    for owner, token in pictures:
        for path in (f"/qrcode/{owner.username}", f"/qrcode/{owner.username.upper()}"):
            require_refusal(await target.send("GET", path, bearer=token), "a QR code that is not to be seen")
    for sid in await enrolled_user.sids():
        require_refusal(
            await target.send("DELETE", f"/sessions/{sid}", bearer=password_user.access), "ending another's session"
        )
    for factor in await _factor_ids(target, enrolled_user):
        require_refusal(
            await target.send("DELETE", f"/factors/{factor}", bearer=password_user.access),
            "removing another's factor",
        )
    if not await enrolled_user.is_logged_in():
        raise Broken("somebody else ended a session, though he was refused")
    return "a code, pictures, a session, a factor: refused"


async def weak_session(context: Context) -> str:
    """What the password alone opened is not enough where a second factor is due."""
    password_user, enrolled_user, target = (
        await context.people.password_user(),
        await context.people.enrolled_user(),
        context.target,
    )
    for query in (
        "acr=aal2",
        "acr=aal2&max_age=300",
        "acr=aal9",
        "ACR=aal2",
        "acr=aal1&acr=aal2",
        "acr=",
        "max_age=-1",
    ):
        require_refusal(await target.send("GET", f"/verify?{query}", bearer=password_user.access), f"/verify?{query}")
    codes = await target.send("POST", "/recovery-codes", bearer=password_user.access)
    require_refusal(codes, "new recovery codes for a session of the password alone")
    again = await target.post("/enable-mfa", {"password": enrolled_user.password}, bearer=enrolled_user.access)
    require_refusal(again, "replacing a proved second factor by a new one")
    if not (strong := await target.send("GET", "/verify?acr=aal2", bearer=enrolled_user.access)).is_yes:
        raise NotTried(f"a session with a second factor was refused too: {strong}")
    return "9 refused"


async def _not_access(context: Context) -> dict[str, str]:
    """Good tokens and other secrets, none of which is an access token."""
    enrolled_user, password_user, unconfirmed_user = (
        await context.people.enrolled_user(),
        await context.people.password_user(),
        await context.people.unconfirmed_user(),
    )
    stepping = await context.target.send("POST", "/step-up", bearer=enrolled_user.access)
    tokens = {
        "a pending token": await enrolled_user.pending(),
        "a pending token of an enrolment": unconfirmed_user.mfa_token,
        "a pending token of a step-up": str(stepping.members.get("mfa_token") or ""),
        "a refresh token": enrolled_user.refresh,
        "a device token": await _device_token(password_user),
        "a recovery code": next(iter(enrolled_user.recovery_codes), ""),
        "a session's id": next(iter(await enrolled_user.sids()), ""),
        "a username": enrolled_user.username,
    }
    return {what: token for what, token in tokens.items() if token}


async def _device_token(person: Person) -> str:
    return str((await person.give_password(remember_device=True)).members.get("device_token") or "")


async def _factor_ids(target: Target, person: Person) -> list[str]:
    said = await target.send("GET", "/factors", bearer=person.access)
    return [str(factor.get("id")) for factor in said.members.get("factors", [])]


async def _protected_routes(target: Target, enrolled_user: Person) -> list[ProtectedRoute]:
    """The routes for access tokens that are known, and those that the service's own document adds."""
    if not await enrolled_user.is_logged_in():
        raise NotTried("an access token was refused at /me, so a refusal of others proves nothing")
    sid, factor = (
        (await enrolled_user.sids() or ["none"])[0],
        (await _factor_ids(target, enrolled_user) or ["none"])[0],
    )
    password = {"password": enrolled_user.password}
    protected_routes = [
        ProtectedRoute("GET", "/me"),
        ProtectedRoute("GET", "/verify"),
        ProtectedRoute("POST", "/verify"),
        ProtectedRoute("GET", "/verify?acr=aal1"),
        ProtectedRoute("GET", "/sessions"),
        ProtectedRoute("DELETE", f"/sessions/{sid}"),
        ProtectedRoute("GET", "/events"),
        ProtectedRoute("POST", "/logout"),
        ProtectedRoute("POST", "/logout?everywhere=true"),
        ProtectedRoute(
            "POST",
            "/password",
            {"current_password": enrolled_user.password, "new_password": f"{enrolled_user.password}-2"},
        ),
        ProtectedRoute("POST", "/enable-mfa", password),
        ProtectedRoute("POST", "/enable-mfa", {**password, "name": "Tablet"}),
        ProtectedRoute("GET", "/factors"),
        ProtectedRoute("DELETE", f"/factors/{factor}"),
        ProtectedRoute("POST", "/recovery-codes"),
        ProtectedRoute("DELETE", "/recovery"),
        ProtectedRoute("POST", "/step-up"),
    ]
    known = {(route.method, route.path.split("?")[0]) for route in protected_routes}
    paths: dict[str, dict[str, Any]] = (await target.send("GET", OPENAPI_PATH)).members.get("paths", {})
    for path, operations in paths.items():
        for method, operation in operations.items():
            takes_it = any("accessToken" in one for one in operation.get("security", ()))
            if (
                takes_it
                and "{" not in path
                and "requestBody" not in operation
                and (method.upper(), path) not in known
            ):
                protected_routes.append(ProtectedRoute(method.upper(), path))
    return protected_routes


ATTACKS = (
    Attack("The password alone", password_alone),
    Attack("Other tokens as access tokens", bearer_routes),
    Attack("Other tokens as pending tokens", pending_routes),
    Attack("Other tokens at /token, /revoke, /introspect", oauth_routes),
    Attack("A good token in a wrong place", wrong_places),
    Attack("What belongs to somebody else", foreign_objects),
    Attack("A weak session where a strong one is due", weak_session),
)
