"""Confusion: a good token in the hands, at the route or in the place that it is not for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.attack.campaign import Attack, Scene, must_refuse
from service.attack.people import Person
from service.attack.report import Broken, NotTried
from service.attack.target import Target

DOCUMENT = "/openapi.json"
_SECRETS = ("access_token", "refresh_token", "recovery_codes", "provisioning_uri", "device_token")


@dataclass(frozen=True)
class Door:
    """A route that takes an access token, with a body that is right but for the token."""

    method: str
    path: str
    body: Mapping[str, object] | None = None

    async def knock(self, target: Target, token: str) -> None:
        """Raises `Broken` unless it is refused for its token: a conflict would mean that it was believed."""
        answer = await target.send(self.method, self.path, body=self.body, bearer=token)
        what = f"{self.method} {self.path.split('?')[0]}"
        must_refuse(answer, what)
        if answer.status == 409:
            raise Broken(f"{what} believed the token and refused for another reason ({answer})")


async def password_alone(scene: Scene) -> str:
    """Of somebody with a second factor, proved or asked for: nothing but a pending token."""
    for who, person in (("a proved", await scene.people.alice()), ("an asked for", await scene.people.dora())):
        answer = await person.give_password()
        if not answer.is_yes:
            raise NotTried(f"the right password was answered {answer}")
        leaked = [name for name in _SECRETS if answer.members.get(name)]
        if leaked:
            raise Broken(f"the password alone, with {who} second factor, was answered with {', '.join(leaked)}")
    return "a pending token, nothing else"


async def bearer_routes(scene: Scene) -> str:
    alice = await scene.people.alice()
    doors = await _doors(scene.target, alice)
    tokens = await _not_access(scene)
    for what, token in tokens.items():
        for door in doors:
            try:
                await door.knock(scene.target, token)
            except Broken as evidence:
                raise Broken(f"{what}: {evidence}") from None
    if not await alice.is_logged_in():
        raise Broken("one of the wrong tokens ended a session, though it was refused")
    return f"{len(tokens)} kinds at {len(doors)} routes refused"


async def pending_routes(scene: Scene) -> str:
    """What is no pending token of the right person, with a good code of his."""
    alice, bob, dora = await scene.people.alice(), await scene.people.bob(), await scene.people.dora()
    code, target = await alice.unused_code(), scene.target
    device = await _device_token(bob)
    wrong = {"an access token": alice.access, "a refresh token": alice.refresh, "a device token": device}
    for what, token in wrong.items():
        must_refuse(await alice.give_code(code, token), f"{what} as mfa_token at /login-2fa")
        must_refuse(await target.post("/login-2fa", {"otp": code}, bearer=token), f"{what} as bearer at /login-2fa")
        for name in (alice.username, dora.username):
            must_refuse(await target.send("GET", f"/qrcode/{name}", bearer=token), f"{what} at /qrcode")
    if dora.secret:
        shown = await target.send("GET", f"/qrcode/{dora.username}", bearer=dora.mfa_token)
        if not shown.is_yes:
            raise NotTried(f"/qrcode was answered {shown} to the right token, so a refusal proves nothing")
    return f"{len(wrong)} kinds at 2 routes refused"


async def oauth_routes(scene: Scene) -> str:
    alice, bob, target = await scene.people.alice(), await scene.people.bob(), scene.target
    tokens = {name: token for name, token in (await _not_access(scene)).items() if name != "a refresh token"}
    tokens["an access token"] = alice.access
    for what, token in tokens.items():
        form = {"grant_type": "refresh_token", "refresh_token": token}
        must_refuse(await target.send("POST", "/token", form=form), f"{what} as refresh_token")
        if what != "an access token":
            await target.send("POST", "/revoke", form={"token": token})  # answers 200 whatever it was (RFC 7009)
    if not await alice.is_logged_in():
        raise Broken("/revoke ended a session for a token that is none of it")
    grants: list[dict[str, str]] = [
        {"grant_type": "password", "username": bob.username, "password": bob.password},
        {"grant_type": "client_credentials", "client_id": "keyturn"},
        {"grant_type": "client_credentials", "client_id": bob.username, "client_secret": bob.password},
        {"grant_type": "authorization_code", "code": bob.access},
        {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": bob.access},
        {"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", "subject_token": bob.access},
        {"grant_type": "refresh_token", "refresh_token": bob.refresh, "scope": "admin"},
    ]
    for grant in grants:
        must_refuse(await target.send("POST", "/token", form=grant), f"grant_type={grant['grant_type']}")
    asked = await target.send("POST", "/introspect", form={"token": alice.access}, bearer=bob.access)
    must_refuse(asked, "/introspect by a person's access token")
    own = await target.send("POST", "/introspect", form={"token": alice.access, "client_id": "keyturn"})
    must_refuse(own, "/introspect without a secret")
    return f"{len(tokens) + len(grants) + 2} refused"


async def wrong_places(scene: Scene) -> str:
    """An access token counts in one Authorization header (RFC 6750 section 2.1), not where it would be logged."""
    bob, target = await scene.people.bob(), scene.target
    good, pending = bob.access, (await scene.people.dora()).mfa_token
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
        "claims of a gateway": [("X-Auth-Subject", bob.username), ("X-Auth-Username", bob.username)],
        "a proxy's word": [("Remote-User", bob.username), ("X-Forwarded-User", bob.username)],
    }
    for path in ("/me", "/verify"):
        for what, headers in places.items():
            must_refuse(await target.send("GET", path, headers=headers), f"{path} with {what}")
        for query in (f"access_token={good}", f"token={good}", f"bearer={good}"):
            must_refuse(await target.send("GET", f"{path}?{query}"), f"{path} with the token in the query")
    must_refuse(await target.send("POST", "/verify", form={"access_token": good}), "/verify with the token in a form")
    return f"{2 * len(places) + 7} refused"


async def somebody_elses(scene: Scene) -> str:
    """A code, a picture, a session and a factor of somebody else."""
    alice, bob, dora = await scene.people.alice(), await scene.people.bob(), await scene.people.dora()
    target, pending = scene.target, await alice.pending()
    must_refuse(
        await alice.give_code(await dora.unused_code(), pending), "somebody else's code under a pending token"
    )
    pictures = [(alice, dora.mfa_token), (dora, pending), (bob, dora.mfa_token), (alice, pending)]
    for owner, token in pictures:
        for path in (f"/qrcode/{owner.username}", f"/qrcode/{owner.username.upper()}"):
            must_refuse(await target.send("GET", path, bearer=token), "a QR code that is not to be seen")
    for sid in await alice.sids():
        must_refuse(await target.send("DELETE", f"/sessions/{sid}", bearer=bob.access), "ending another's session")
    for factor in await _factor_ids(target, alice):
        must_refuse(await target.send("DELETE", f"/factors/{factor}", bearer=bob.access), "removing another's factor")
    if not await alice.is_logged_in():
        raise Broken("somebody else ended a session, though he was refused")
    return "a code, pictures, a session, a factor: refused"


async def weak_session(scene: Scene) -> str:
    """What the password alone opened is not enough where a second factor is due."""
    bob, alice, target = await scene.people.bob(), await scene.people.alice(), scene.target
    for query in (
        "acr=aal2",
        "acr=aal2&max_age=300",
        "acr=aal9",
        "ACR=aal2",
        "acr=aal1&acr=aal2",
        "acr=",
        "max_age=-1",
    ):
        must_refuse(await target.send("GET", f"/verify?{query}", bearer=bob.access), f"/verify?{query}")
    codes = await target.send("POST", "/recovery-codes", bearer=bob.access)
    must_refuse(codes, "new recovery codes for a session of the password alone")
    again = await target.post("/enable-mfa", {"password": alice.password}, bearer=alice.access)
    must_refuse(again, "replacing a proved second factor by a new one")
    if not (strong := await target.send("GET", "/verify?acr=aal2", bearer=alice.access)).is_yes:
        raise NotTried(f"a session with a second factor was refused too: {strong}")
    return "9 refused"


async def _not_access(scene: Scene) -> dict[str, str]:
    """Good tokens and other secrets, none of which is an access token."""
    alice, bob, dora = await scene.people.alice(), await scene.people.bob(), await scene.people.dora()
    stepping = await scene.target.send("POST", "/step-up", bearer=alice.access)
    tokens = {
        "a pending token": await alice.pending(),
        "a pending token of an enrolment": dora.mfa_token,
        "a pending token of a step-up": str(stepping.members.get("mfa_token") or ""),
        "a refresh token": alice.refresh,
        "a device token": await _device_token(bob),
        "a recovery code": next(iter(alice.recovery_codes), ""),
        "a session's id": next(iter(await alice.sids()), ""),
        "a username": alice.username,
    }
    return {what: token for what, token in tokens.items() if token}


async def _device_token(person: Person) -> str:
    return str((await person.give_password(remember_device=True)).members.get("device_token") or "")


async def _factor_ids(target: Target, person: Person) -> list[str]:
    said = await target.send("GET", "/factors", bearer=person.access)
    return [str(factor.get("id")) for factor in said.members.get("factors", [])]


async def _doors(target: Target, alice: Person) -> list[Door]:
    """The routes for access tokens that are known, and those that the service's own document adds."""
    if not await alice.is_logged_in():
        raise NotTried("an access token was refused at /me, so a refusal of others proves nothing")
    sid, factor = (await alice.sids() or ["none"])[0], (await _factor_ids(target, alice) or ["none"])[0]
    password = {"password": alice.password}
    doors = [
        Door("GET", "/me"), Door("GET", "/verify"), Door("POST", "/verify"), Door("GET", "/verify?acr=aal1"),
        Door("GET", "/sessions"), Door("DELETE", f"/sessions/{sid}"), Door("GET", "/events"),
        Door("POST", "/logout"), Door("POST", "/logout?everywhere=true"),
        Door("POST", "/password", {"current_password": alice.password, "new_password": f"{alice.password}-2"}),
        Door("POST", "/enable-mfa", password), Door("POST", "/enable-mfa", {**password, "name": "Tablet"}),
        Door("GET", "/factors"), Door("DELETE", f"/factors/{factor}"), Door("POST", "/recovery-codes"),
        Door("DELETE", "/recovery"), Door("POST", "/step-up"),
    ]  # fmt: skip
    known = {(door.method, door.path.split("?")[0]) for door in doors}
    paths: dict[str, dict[str, Any]] = (await target.send("GET", DOCUMENT)).members.get("paths", {})
    for path, operations in paths.items():
        for method, operation in operations.items():
            takes_it = any("accessToken" in one for one in operation.get("security", ()))
            if (
                takes_it
                and "{" not in path
                and "requestBody" not in operation
                and (method.upper(), path) not in known
            ):
                doors.append(Door(method.upper(), path))
    return doors


ATTACKS = (
    Attack("The password alone", password_alone),
    Attack("Other tokens as access tokens", bearer_routes),
    Attack("Other tokens as pending tokens", pending_routes),
    Attack("Other tokens at /token, /revoke, /introspect", oauth_routes),
    Attack("A good token in a wrong place", wrong_places),
    Attack("What belongs to somebody else", somebody_elses),
    Attack("A weak session where a strong one is due", weak_session),
)
