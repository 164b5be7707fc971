"""The model answers as the service does: both get the same sequence of requests."""

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from service.factors.attempts import FREE_FAILURES, MAX_FAILURES
from service.storage.throttle import CODES_PER_PENDING_TOKEN
from tests.harness.clients import Opener
from tests.harness.people import MovableClock, Person, sign_up
from tests.harness.sessions import bearer
from tests.model.cast import Act, Scene
from tests.model.explore import describe
from tests.model.protocol import Protocol
from tests.model.scenes import DISABLE, EVERYWHERE, NEXT, ONE, PASSWORD, REFRESH, SESSION, T0, T1, TOO, code
from tests.model.world import FIRST_SESSION, WRONG, Answer, World

SEQUENCES, MAX_LENGTH = 84, 8

STEP_UP = Act("step up")
ACTS = (
    code(0, 0),
    code(0, 1),
    code(1, 0, 1),
    code(1, 2),
    code(1, 3),
    code(0, WRONG),
    code(0, WRONG, 1),
    code(1, WRONG),
    code(1, WRONG, 1),
    DISABLE,
    Act("disable", factor=ONE, step=2),
    PASSWORD,
    EVERYWHERE._replace(session=0),
    Act("revoke"),
    REFRESH,
    TOO,
    NEXT,
    Act("login"),
    Act("login", password=2),
    Act("recovery code"),
    Act("recovery code", pending=1),
    Act("enable", factor=ONE),
    STEP_UP,
)
RAISING = 2 + ACTS.index(STEP_UP)
"""The number of the pending token in the answer to the step-up."""

SCENE = Scene(
    "everything",
    (*ACTS, code(RAISING, 1), code(RAISING, 2), Act("recovery code", pending=RAISING)),
    pendings=(T0, T1),
    sessions=(SESSION,),
    ticks=0,
    faults=frozenset(),
    free=FREE_FAILURES,
    budget=MAX_FAILURES,
    codes_per_token=CODES_PER_PENDING_TOKEN,
)
"""A scene with the limits of the service."""

THEMES = (
    {act.kind for act in SCENE.acts},
    {"refresh"},
    {"refresh", "revoke", "everywhere"},
    {"login", "password", "disable", "enable", "refresh"},
    {"code"},
    {"code", "step up", "recovery code"},
)
"""The kinds of requests that a sequence mixes, so that those that affect each other meet."""

SUCCESSES = {"admitted", "raised", "done", "refreshed", "second factor required"}


@dataclass
class ServiceUser:
    """A user who does at the service what happens in the model."""

    person: Person
    clock: MovableClock
    pendings: dict[int, str]
    access: str
    recovery_code: str
    refresh_tokens: dict[tuple[int, int], str]
    first_step: int = 0
    log: list[str] = field(default_factory=list)

    async def do(self, act: Act) -> httpx2.Response:
        name, password = self.person.username, self.person.password + "x" * (act.password - 1)
        authorised, pending = {"headers": bearer(self.access)}, {"mfa_token": self.pendings.get(act.pending)}
        of_generation = self.refresh_tokens.get((FIRST_SESSION, act.generation))
        login = {"username": name, "password": password}
        change = {"current_password": password, "new_password": password + "x"}
        requests: dict[str, tuple[str, dict[str, Any]]] = {
            "login": ("/login", {"json": login}),
            "code": ("/login-2fa", {"json": {**pending, "otp": self.code(act.step)}}),
            "recovery code": ("/login-2fa", {"json": {**pending, "recovery_code": self.recovery_code}}),
            "step up": ("/step-up", authorised),
            "disable": ("/disable-mfa", {"json": {**login, "token": self.code(act.step)}}),
            "enable": ("/enable-mfa", {"json": {"password": password}, **authorised}),
            "password": ("/password", {"json": change, **authorised}),
            "everywhere": ("/logout?everywhere=true", authorised),
            "revoke": ("/revoke", {"data": {"token": of_generation}}),
            "refresh": ("/token", {"data": {"grant_type": "refresh_token", "refresh_token": of_generation}}),
        }
        path, sent = requests[act.kind]
        return await self.person.client.post(path, **sent)

    def code(self, step: int) -> str:
        now = int(self.clock.now.timestamp()) // 30
        return self.person.wrong_code() if step == WRONG else self.person.code(self.first_step + step - now)


@pytest.fixture
async def client(embedded: dict[str, Any], open_client: Opener) -> AsyncIterator[httpx2.AsyncClient]:
    limits = dict.fromkeys(("limit_signup", "limit_login", "limit_login_address", "limit_login_username"))
    async with open_client({**embedded, **limits}) as opened:
        yield opened


async def begin(client: httpx2.AsyncClient, clock: MovableClock, name: str) -> ServiceUser:
    """Return a user as the scene begins: with a confirmed authenticator, a session and two pending tokens."""
    person = await sign_up(client, clock, name)
    first = (await person.confirm()).json()
    clock.next_step()
    clock.advance(seconds=60)  # so that the step of the confirming code lies far back
    user = ServiceUser(
        person,
        clock,
        {0: await person.pending(), 1: await person.pending()},
        first["access_token"],
        first["recovery_codes"][0],
        {(FIRST_SESSION, 0): first["refresh_token"]},
    )
    user.first_step = int(clock.now.timestamp()) // 30
    return user


def run_alone(protocol: Protocol, world: World, number: int) -> World:
    """Take the request from its beginning to its answer while no other request runs."""
    while not isinstance(world.requests[number], Answer):
        ((_, _, world),) = (move for move in protocol.moves(world) if move[0] == number)
    return world


async def test_the_model_answers_as_the_service_does(client: httpx2.AsyncClient, clock: MovableClock) -> None:
    """In 84 random sequences of requests, both succeed, refuse and report clock drift alike."""
    chance = random.Random(5)  # noqa: S311 (random order, not a secret)
    protocol = Protocol(SCENE)
    answered: set[tuple[str, str]] = set()
    for n in range(SEQUENCES):
        user, world = await begin(client, clock, f"person{n}"), protocol.start()
        order = [number for number, act in enumerate(SCENE.acts) if act.kind in THEMES[n % len(THEMES)]]
        chance.shuffle(order)
        for number in order:
            act = SCENE.acts[number]
            if len(user.log) == MAX_LENGTH or not protocol.setting.may_begin(world, act):
                continue
            if chance.random() < 0.2 and world.clock < 3:
                clock.advance(seconds=30)
                world = world._replace(clock=world.clock + 1)
                user.log.append("a step later")
            world = run_alone(protocol, world, number)
            expected = world.requests[number]
            answer = await user.do(act)
            user.log.append(f"{describe(act)}: {answer.status_code} {answer.text[:80]}")
            assert isinstance(expected, Answer)
            assert (expected.word in SUCCESSES) == answer.is_success, (expected, user.log)
            answered.add((act.kind, expected.word))
            body = answer.json() if answer.content else {}
            if act.kind == "code":
                assert (expected.word == "out of step") == (body.get("code") == "code_out_of_step"), user.log
            if expected.pending is not None:
                user.pendings[2 + number] = body["mfa_token"]
            if expected.refresh is not None:
                assert body["refresh_token"] == user.refresh_tokens.setdefault(
                    expected.refresh, body["refresh_token"]
                )
    every = {act.kind for act in SCENE.acts}
    assert every - {"enable"} == {kind for kind, word in answered if word in SUCCESSES}
    assert every - {"revoke"} == {kind for kind, word in answered if word not in SUCCESSES}
