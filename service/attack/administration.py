"""Administration: the paths below `/admin` refuse every caller without a scope or the role, or do not exist."""

from typing import Any

from service.attack.campaign import Attack, Context, require_refusal
from service.attack.confusion import OPENAPI_PATH, tokens_of_other_kinds
from service.attack.report import Broken, NotTried
from service.attack.target import Answer

ROLE = "keyturn-admin"
SCOPES = ("keyturn:users.read", "keyturn:users.write", "keyturn:clients", "keyturn:events.read")
PREFIX = "/admin/"


def _routes(sub: str, sid: str, name: str) -> list[tuple[str, str, dict[str, object] | None]]:
    """Return the routes, with bodies that are valid and the ids of the attacker's own account."""
    user, client = f"/admin/users/{sub}", f"/admin/clients/{name}"
    account: dict[str, object] = {
        "username": f"{name}-admin",
        "password": f"{name} and much more",
        "roles": [ROLE],
    }
    routes: list[tuple[str, str, dict[str, object] | None]] = [
        ("GET", "/admin/users", None),
        ("POST", "/admin/users", account),
        ("GET", user, None),
        ("PATCH", user, {"roles": [ROLE]}),
        ("PATCH", user, {"disabled": False}),
        ("DELETE", f"/admin/users/{sub}x", None),  # no such user: the attacker's own account is needed later
        ("POST", f"{user}/password-reset", None),
        ("POST", f"{user}/reset-mfa", None),
        ("GET", f"{user}/sessions", None),
        ("DELETE", f"{user}/sessions", None),
        ("DELETE", f"{user}/sessions/{sid}", None),
        ("GET", f"{user}/events", None),
        ("GET", "/admin/events", None),
        ("GET", "/admin/clients", None),
        ("POST", "/admin/clients", {"client_id": name, "scopes": list(SCOPES)}),
        ("GET", client, None),
        ("DELETE", client, None),
        ("POST", f"{client}/rotate-secret", {}),
        ("GET", "/admin/invitations", None),
        ("POST", "/admin/invitations", {"roles": [ROLE]}),
        ("GET", "/admin/invitations/0123456789abcdef0123456789abcdef", None),
        ("DELETE", "/admin/invitations/0123456789abcdef0123456789abcdef", None),
    ]
    return routes


def _judge(answer: Answer, what: str, *, is_off: bool) -> None:
    """Raise `Broken` unless the answer refuses the token, or, where the API is off, says that there is no such path.

    Raises `NotTried` if a field was refused first.
    """
    require_refusal(answer, what)
    if is_off and answer.status not in {404, 405}:
        raise Broken(f"{what}: the path exists, although the admin API is off ({answer})")
    if not is_off and answer.status in {404, 409}:
        raise Broken(f"{what} accepted the token and refused for another reason ({answer})")
    if not is_off and answer.status == 422:
        raise NotTried(f"{what} refused a field ({answer}), so the refusal proves nothing")


async def without_scope(context: Context) -> str:
    """Give every kind of token that a user has to every route."""
    people, target = context.people, context.target
    enrolled_user, password_user = await people.enrolled_user(), await people.password_user()
    own = (await target.send("GET", "/me", bearer=enrolled_user.access)).members
    sid = next(iter(await enrolled_user.sids()), "none")
    tokens: dict[str, str | None] = {"no token": None, "a user's access token": enrolled_user.access}
    tokens |= {"an access token of a password": password_user.access, **await tokens_of_other_kinds(context)}
    is_off = (await target.send("GET", "/admin/users")).status == 404
    routes = _routes(str(own.get("sub") or "none"), sid, people.name)
    documented: dict[str, dict[str, Any]] = (await target.send("GET", OPENAPI_PATH)).members.get("paths", {})
    known = {(method, path) for method, path, _ in routes}
    for path, operations in documented.items():
        if path.startswith(PREFIX) and "{" not in path:
            routes += [(m.upper(), path, None) for m in operations if (m.upper(), path) not in known]
    for method, path, body in routes:
        for what, token in tokens.items():
            answer = await target.send(method, path, body=body, bearer=token)
            _judge(answer, f"{method} {path.replace(str(own.get('sub')), '{sub}')} with {what}", is_off=is_off)
    after = (await target.send("GET", "/me", bearer=enrolled_user.access)).members
    if after.get("roles") != own.get("roles"):
        raise Broken("a refused request changed the roles of the user")
    state = "off" if is_off else "on"
    return f"it is {state}; {len(tokens)} kinds at {len(routes)} routes refused"


async def other_ways(context: Context) -> str:
    """Ask for scopes and roles, and spell the paths in other ways."""
    target, password_user = context.target, await context.people.password_user()
    count = 0
    for scope in (*SCOPES, " ".join(SCOPES), "keyturn:*"):
        for grant in (
            {"grant_type": "refresh_token", "refresh_token": password_user.refresh, "scope": scope},
            {"grant_type": "client_credentials", "client_id": "keyturn", "scope": scope},
            {"grant_type": "client_credentials", "client_id": "keyturn", "client_secret": "", "scope": scope},
        ):
            require_refusal(await target.send("POST", "/token", form=grant), f"{grant['grant_type']} with {scope}")
            count += 1
    account = {"username": f"{context.people.name}-role", "password": f"{context.people.name} and more"}
    for body in ({**account, "roles": [ROLE]}, {**account, "role": ROLE}, {**account, "disabled": False}):
        require_refusal(await target.post("/signup", body), "a sign-up that asks for a role")
        count += 1
    for path in ("/ADMIN/users", "/admin//users", "//admin/users", "/admin/users/", "/me/..%2fadmin/users",
                 "/admin/users;a=b", "/admin/users?access_token=" + password_user.access):  # fmt: skip
        require_refusal(await target.send("GET", path, bearer=password_user.access), path.partition("=")[0])
        count += 1
    for name in ("X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Uri"):
        answer = await target.send("GET", "/me", bearer=password_user.access, headers=[(name, "/admin/users")])
        if "users" in answer.members:
            raise Broken(f"{name} changed the path")
        count += 1
    for lines in ([("X-Auth-Roles", ROLE)], [("X-Auth-Roles", ROLE), ("X-Auth-Subject", password_user.username)]):
        answer = await target.send("GET", "/admin/users", bearer=password_user.access, headers=lines)
        require_refusal(answer, "the identity headers of a gateway")
        count += 1
    return f"{count} refused"


ATTACKS = (
    Attack("Every token without a scope or the role", without_scope),
    Attack("Scopes, roles and paths in other ways", other_ways),
)
