"""Confusion: a valid token must be refused if another user sends it, at another route, or in another place."""

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
    """A route that requires an access token, with a body that is valid apart from the token."""

    method: str
    path: str
    body: Mapping[str, object] | None = None

    async def probe(self, target: Target, token: str) -> None:
        """Raise `Broken` unless the route refuses the token.

        A 409 is no such refusal: the route has accepted the token and refuses for another reason.
        """
        answer = await target.send(self.method, self.path, body=self.body, bearer=token)
        what = f"{self.method} {self.path.split('?')[0]}"
        require_refusal(answer, what)
        if answer.status == 409:
            raise Broken(f"{what} accepted the token and refused for another reason ({answer})")


async def password_alone(context: Context) -> str:
    """The password of a user with a second factor, confirmed or not, must yield nothing but a pending token."""
    for kind, person in (
        ("a confirmed", await context.people.enrolled_user()),
        ("an unconfirmed", await context.people.unconfirmed_user()),
    ):
        answer = await person.give_password()
        if not answer.is_yes:
            raise NotTried(f"the right password was answered {answer}")
        leaked = [name for name in _SECRETS if answer.members.get(name)]
        if leaked:
            raise Broken(f"the password alone, with {kind} second factor, was answered with {', '.join(leaked)}")
    return "only a pending token"


async def bearer_routes(context: Context) -> str:
    enrolled_user = await context.people.enrolled_user()
    protected_routes = await _protected_routes(context.target, enrolled_user)
    tokens = await tokens_of_other_kinds(context)
    for what, token in tokens.items():
        for route in protected_routes:
            try:
                await route.probe(context.target, token)
            except Broken as evidence:
                raise Broken(f"{what}: {evidence}") from None
    if not await enrolled_user.is_logged_in():
        raise Broken("one of the wrong tokens was refused but ended a session")
    return f"{len(tokens)} kinds at {len(protected_routes)} routes refused"


async def pending_routes(context: Context) -> str:
    """A valid code of the user, with a token that is not a pending token of the user, must be refused."""
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
            raise NotTried(f"/qrcode answered {shown} to the right token, so a refusal proves nothing")
    return f"{len(wrong)} kinds at 2 routes refused"


async def oauth_routes(context: Context) -> str:
    enrolled_user, password_user, target = (
        await context.people.enrolled_user(),
        await context.people.password_user(),
        context.target,
    )
    tokens = await tokens_of_other_kinds(context)
    del tokens["a refresh token"]
    tokens["an access token"] = enrolled_user.access
    for what, token in tokens.items():
        form = {"grant_type": "refresh_token", "refresh_token": token}
        require_refusal(await target.send("POST", "/token", form=form), f"{what} as refresh_token")
        if what != "an access token":
            await target.send("POST", "/revoke", form={"token": token})  # answers 200 to any token (RFC 7009)
    if not await enrolled_user.is_logged_in():
        raise Broken("/revoke ended a session for a token that does not belong to it")
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
    require_refusal(asked, "/introspect with a user's access token")
    own = await target.send("POST", "/introspect", form={"token": enrolled_user.access, "client_id": "keyturn"})
    require_refusal(own, "/introspect without a secret")
    return f"{len(tokens) + len(grants) + 2} refused"


async def wrong_places(context: Context) -> str:
    """An access token must be refused everywhere but in one Authorization header (RFC 6750 section 2.1).

    In a query string, for example, it would be logged.
    """
    password_user, target = await context.people.password_user(), context.target
    valid, pending = password_user.access, (await context.people.unconfirmed_user()).mfa_token
    places: dict[str, list[tuple[str, str]]] = {
        "no token": [],
        "a cookie": [("Cookie", f"access_token={valid}; token={valid}; session={valid}")],
        "other headers": [
            ("X-Access-Token", valid),
            ("X-Auth-Token", valid),
            ("X-Forwarded-Access-Token", valid),
        ],
        "another scheme": [("Authorization", f"Basic {valid}")],
        "no scheme": [("Authorization", valid)],
        "two headers": [("Authorization", f"Bearer {valid}"), ("Authorization", f"Bearer {pending}")],
        "two headers, the valid one last": [
            ("Authorization", f"Bearer {pending}"),
            ("Authorization", f"Bearer {valid}"),
        ],
        "two in one header": [("Authorization", f"Bearer {pending}, Bearer {valid}")],
        "headers of a gateway": [
            ("X-Auth-Subject", password_user.username),
            ("X-Auth-Username", password_user.username),
        ],
        "headers of a proxy": [("Remote-User", password_user.username), ("X-Forwarded-User", password_user.username)],
    }
    for path in ("/me", "/verify"):
        for what, headers in places.items():
            require_refusal(await target.send("GET", path, headers=headers), f"{path} with {what}")
        for query in (f"access_token={valid}", f"token={valid}", f"bearer={valid}"):
            require_refusal(await target.send("GET", f"{path}?{query}"), f"{path} with the token in the query")
    require_refusal(
        await target.send("POST", "/verify", form={"access_token": valid}), "/verify with the token in a form"
    )
    return f"{2 * len(places) + 7} refused"


async def foreign_objects(context: Context) -> str:
    """A code, a QR code, a session and a factor must be refused to another user."""
    enrolled_user, password_user, unconfirmed_user = (
        await context.people.enrolled_user(),
        await context.people.password_user(),
        await context.people.unconfirmed_user(),
    )
    target, pending = context.target, await enrolled_user.pending()
    require_refusal(
        await enrolled_user.give_code(await unconfirmed_user.unused_code(), pending),
        "another user's code with a pending token",
    )
    qr_codes = [
        (enrolled_user, unconfirmed_user.mfa_token),
        (unconfirmed_user, pending),
        (password_user, unconfirmed_user.mfa_token),
        (enrolled_user, pending),
    ]
    for owner, token in qr_codes:
        for path in (f"/qrcode/{owner.username}", f"/qrcode/{owner.username.upper()}"):
            require_refusal(
                await target.send("GET", path, bearer=token), "the QR code of another user or of a confirmed factor"
            )
    for sid in await enrolled_user.sids():
        require_refusal(
            await target.send("DELETE", f"/sessions/{sid}", bearer=password_user.access),
            "ending another user's session",
        )
    for factor in await _factor_ids(target, enrolled_user):
        require_refusal(
            await target.send("DELETE", f"/factors/{factor}", bearer=password_user.access),
            "removing another user's factor",
        )
        require_refusal(
            await target.send("PATCH", f"/factors/{factor}", body={"name": "Tablet"}, bearer=password_user.access),
            "renaming another user's factor",
        )
    if not await enrolled_user.is_logged_in():
        raise Broken("another user was refused but ended a session")
    return "a code, QR codes, a session, a factor: refused"


async def weak_session(context: Context) -> str:
    """A session that was opened with only the password must be refused where a second factor is required.

    Not even the password and a session with a second factor may replace a confirmed second factor.
    """
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
    require_refusal(codes, "new recovery codes for a session without a second factor")
    again = await target.post("/enable-mfa", {"password": enrolled_user.password}, bearer=enrolled_user.access)
    require_refusal(again, "replacing a confirmed second factor with a new one")
    if not (strong := await target.send("GET", "/verify?acr=aal2", bearer=enrolled_user.access)).is_yes:
        raise NotTried(f"a session with a second factor was refused too: {strong}")
    return "9 refused"


async def tokens_of_other_kinds(context: Context) -> dict[str, str]:
    """Return valid tokens and other values of users, none of which is an access token."""
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
    """Return the known routes for access tokens, and those that the service's OpenAPI document adds."""
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
        ProtectedRoute("PATCH", f"/factors/{factor}", {"name": "Tablet"}),
        ProtectedRoute("DELETE", f"/factors/{factor}"),
        ProtectedRoute("POST", "/recovery-codes"),
        ProtectedRoute("DELETE", "/recovery"),
        ProtectedRoute("POST", "/step-up"),
        ProtectedRoute("PATCH", "/me", {"locale": "de"}),
        ProtectedRoute("DELETE", "/me", password),
        ProtectedRoute("GET", "/me/export"),
        ProtectedRoute("POST", "/email", {**password, "email": f"{enrolled_user.username}@attack.invalid"}),
        ProtectedRoute("DELETE", "/email"),
        ProtectedRoute("DELETE", "/email", password),
    ]
    known = {(route.method, route.path.split("?")[0]) for route in protected_routes}
    paths: dict[str, dict[str, Any]] = (await target.send("GET", OPENAPI_PATH)).members.get("paths", {})
    for path, operations in paths.items():
        for method, operation in operations.items():
            takes_it = any("accessToken" in scheme for scheme in operation.get("security", ()))
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
    Attack("A valid token in a wrong place", wrong_places),
    Attack("Objects of another user", foreign_objects),
    Attack("A session without a required second factor", weak_session),
)
