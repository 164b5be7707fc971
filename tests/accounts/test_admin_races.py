"""Administrators who act at the same time: one of them stays. SQLite and PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest

from service.accounts.changes import Changes
from service.errors import Forbidden, LastAdministrator, NotFound, ServiceError
from service.origin import OPERATOR, Actor
from service.users.administrators import ADMINISTRATOR
from tests.harness.administrators import administrator, sub_of
from tests.harness.clients import Client, Opener
from tests.harness.people import MovableClock

ROUNDS = 12


@pytest.fixture
async def api(world: dict[str, Any], open_client: Opener) -> AsyncIterator[Client]:
    async with open_client({**world, "admin_api": "on", "limit_signup": None}) as client:
        yield client


async def two(client: Client, clock: MovableClock, number: int) -> list[str]:
    """Return the `sub`s of two users who are the only administrators."""
    subs = []
    for name in (f"first{number:02}", f"second{number:02}"):
        subs.append(await sub_of(client, clock, name))
        await client.parts.administration.set_roles(name, add=ADMINISTRATOR, by=OPERATOR)
    return subs


async def left(client: Client) -> list[str]:
    rows = await client.parts.database.fetch_all("SELECT id, roles FROM users WHERE disabled_at IS NULL")
    return [row["id"] for row in rows if ADMINISTRATOR in row["roles"].split()]


async def outcome(act: Awaitable[Any]) -> type[ServiceError] | None:
    try:
        await act
    except ServiceError as error:
        return type(error)
    return None


WAYS = 5


def remove(client: Client, target: str, by: Actor, way: int) -> Awaitable[Any]:
    """Remove an administrator in one of the ways."""
    acts, name = client.parts.administration, f"sub:{target}"
    match way:
        case 0:
            return acts.change(name, Changes(roles=("x",)), by=by)
        case 1:
            return acts.change(name, Changes(disabled=True), by=by)
        case 2:
            return acts.delete(name, by=by)
        case 3:
            return acts.set_roles(name, remove=ADMINISTRATOR, by=by)
        case _:
            return acts.set_disabled(name, disabled=True, by=by)


@pytest.mark.parametrize("is_mutual", [True, False])
async def test_of_two_administrators_who_leave_at_once_one_stays(
    api: Client, clock: MovableClock, is_mutual: bool
) -> None:
    """They remove each other, or each removes themself, in the same way and in different ones."""
    for number in range(ROUNDS):
        first, second = await two(api, clock, number)
        by = (second, first) if is_mutual else (first, second)
        chosen = (
            remove(api, first, Actor.user(by[0]), number % WAYS),
            remove(api, second, Actor.user(by[1]), (number + number // WAYS) % WAYS),
        )
        outcomes = await asyncio.gather(*map(outcome, chosen))
        refusal = {Forbidden, NotFound} if is_mutual else {LastAdministrator}
        assert 1 == sum(found is None for found in outcomes), outcomes
        assert set(outcomes) - {None} <= refusal
        (stays,) = await left(api)
        await api.parts.administration.delete(f"sub:{stays}", by=OPERATOR)


async def test_an_administrator_who_lost_the_role_is_refused_after_the_token_was_checked(
    api: Client, clock: MovableClock
) -> None:
    """Each act checks the role again, in its transaction."""
    first, second = await two(api, clock, 0)
    bob = await sub_of(api, clock, "bob")
    await api.parts.administration.set_roles(f"sub:{second}", remove=ADMINISTRATOR, by=Actor.user(first))
    by, parts = Actor.user(second), api.parts
    user = await parts.administration.get("bob")
    for act in (
        *(remove(api, target, by, way) for target in (first, bob) for way in range(WAYS)),
        parts.administration.set_password("bob", "a new and unused password", by=by),
        parts.administration.reset_mfa("bob", by=by),
        parts.password_resets.offer(user, by=by),
        parts.user_sessions.end_all(user, by=by),
        parts.user_sessions.end(user, "0" * 22, by=by),
        parts.clients.add("billing", (), by=by),
        parts.clients.rotate_secret("billing", by=by),
        parts.clients.remove("billing", by=by),
        parts.sign_up.sign_up("carol", "a new and unused password", enable_mfa=False, caller=None, by=by),
    ):
        assert Forbidden is await outcome(act)
    assert [first] == await left(api)


async def test_two_requests_that_remove_each_other(api: Client, clock: MovableClock) -> None:
    """By HTTP the second one is refused with 401 if its session ended meanwhile, else with 403."""
    first, second = await administrator(api, clock), await administrator(api, clock, "second")
    answers = await asyncio.gather(
        first.call("PATCH", f"users/{second.sub}", {"disabled": True}),
        second.call("PATCH", f"users/{first.sub}", {"disabled": True}),
    )
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses in ([200, 401], [200, 403])
    assert 1 == len(await left(api))
