"""Static claims: set by an administrator, stored with the user, and in access tokens as `KEYTURN_CLAIMS` says."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.accounts.changes import Changes
from service.environment import read_settings
from service.errors import ConfigurationError
from service.operations.doctor.database import check_static_claims
from service.operations.doctor.finding import Deployment
from service.origin import OPERATOR
from service.static_claims import (
    MAX_BYTES,
    MAX_WHOLE_NUMBER,
    OWN,
    REGISTERED,
    check_claims,
    check_name,
    decode,
    encode,
    read_json,
)
from service.users.user_claims import list_absent_claims
from tests.harness.administrators import SCOPES, Caller, administrator, sub_of, token_of_client
from tests.harness.clients import Client, Opener
from tests.harness.import_files import export_lines, import_lines, record
from tests.harness.people import MovableClock, sign_up
from tests.harness.relying_services import add_client, basic, introspect
from tests.harness.sessions import bearer, claims
from tests.reference.tokens import kinds

NAMED = "tenant,https://example.com/plan"


@pytest.fixture
async def api(world: dict[str, Any], open_client: Opener) -> AsyncIterator[Client]:
    async with open_client({**world, "admin_api": "on", "claims": NAMED, "limit_signup": None}) as client:
        yield client


@pytest.fixture
async def desk(api: Client, clock: MovableClock) -> Caller:
    return await token_of_client(api, clock, "desk", SCOPES)


async def set_claims(caller: Caller, sub: str, given: dict[str, Any]) -> None:
    answer = await caller.call("PATCH", f"users/{sub}", {"claims": given})
    assert (200, given) == (answer.status_code, answer.json()["claims"]), answer.text


# Names and values


@pytest.mark.parametrize("name", ["tenant", "a", "x_y.z:1-2", "urn:example:tenant", "https://example.com/T~%41#x",
                                  "http://a", "com.example.tenant", "x" * 128])  # fmt: skip
def test_a_name_is_a_word_or_a_url(name: str) -> None:
    assert name == check_name(name)


@pytest.mark.parametrize("name", ["", "Tenant", "1a", "_a", "a b", "a,b", "a/b", 'a"', "a\n", "a\x00", "\xe9",
                                  "x" * 129, "https://", "https://a b", "ftp://a/b"])  # fmt: skip
def test_any_other_text_is_no_name(name: str) -> None:
    """The sentence does not repeat it: it may be a value in the wrong place."""
    with pytest.raises(ValueError, match="The name of a claim needs") as refused:
        check_name(name)
    assert len(name) < 10 or name not in str(refused.value)


@pytest.mark.parametrize("name", sorted({*OWN, *REGISTERED, "keyturn", "keyturn:x"} - {"_sd", "_sd_alg"}))
def test_a_name_with_a_meaning_of_its_own_is_refused(name: str) -> None:
    """Relying services would read a static claim as the registered one, or as one of Keyturn's own."""
    with pytest.raises(ValueError, match=r"uses itself|is a registered claim|The name of a claim"):
        check_name(name)


def test_every_claim_of_a_token_is_reserved() -> None:
    """Also those of pending tokens; and the members of `/introspect`."""
    assert set[str]().union(*(kind.claims for kind in kinds())) <= OWN
    assert {"active", "token_type", "username", "exp"} <= OWN


@pytest.mark.parametrize("value", ["", "acme", "\u00fc \U0001f600", 0, -MAX_WHOLE_NUMBER, MAX_WHOLE_NUMBER, True,
                                   False, [], ["a", "b"]])  # fmt: skip
def test_a_value_is_a_text_a_whole_number_a_truth_value_or_a_list_of_texts(value: object) -> None:
    assert {"a": value} == decode(encode(check_claims({"a": value})))


@pytest.mark.parametrize("value", [None, 1.5, MAX_WHOLE_NUMBER + 1, -MAX_WHOLE_NUMBER - 1, {}, {"a": "b"}, [1],
                                   [None], [["a"]], "a\x00", "a\n", "\x85", "\ud800", ["\ud800"]])  # fmt: skip
def test_any_other_value_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="The value of a claim is"):
        check_claims({"a": value})


def test_claims_have_at_most_a_kilobyte_as_they_stand_in_a_token() -> None:
    """A letter beyond ASCII takes six bytes in a token."""
    most = MAX_BYTES - len('{"a":""}')
    check_claims({"a": "x" * most})
    check_claims({"a": "\u00fc" * (most // 6)})
    for text in ("x" * (most + 1), "\u00fc" * (most // 6 + 1)):
        with pytest.raises(ValueError, match="at most 1024 bytes"):
            check_claims({"a": text})


@given(st.text('{}":,\\ab'))
def test_only_a_name_looks_like_a_name(text: str) -> None:
    """The statement that looks for a name finds none in a value: quotation marks are escaped there."""
    assert '"a":' not in encode({"b": text, "c": [text]})


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{", '{"a": 1, "a": 2}', '{"a": NaN}', "[" * 5000, '{"sub": "x"}']
)
def test_an_operators_json_is_read_strictly(text: str) -> None:
    with pytest.raises(ValueError, match=r"JSON object|uses itself|The value"):
        read_json(text)


# The setting


@pytest.mark.parametrize(
    "value", ["sub", "tenant,email", "roles", "status", "true", "off", "none", "Tenant", "*", "a;b"]
)
def test_a_setting_that_names_what_cannot_be_stops_the_start(value: str) -> None:
    with pytest.raises(ConfigurationError, match="KEYTURN_CLAIMS: ") as refused:
        read_settings({"KEYTURN_CLAIMS": value})
    assert 1 == len(str(refused.value).splitlines())


def test_a_setting_names_each_claim_once() -> None:
    assert ("tenant", "plan") == read_settings({"KEYTURN_CLAIMS": "tenant, plan,tenant"}).claims


async def test_the_doctor_names_a_claim_that_no_user_has(
    world: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """It is misspelt, or was not given yet. A value that looks like the name does not count."""
    async with open_client({**world, "claims": "ten_ant, tenant"}) as client:
        await sign_up(client, clock, "alice", mfa=False)
        given: dict[str, Any] = {"ten_ant": "a", "plans": 1, "x": '"tenant":"\\"tenant":'}
        await client.parts.administration.change("alice", Changes(claims=given), by=OPERATOR)
        names = ["ten_ant", "tenXant", "tenant", "plan_", "p%s", "x"]
        assert ["tenXant", "tenant", "plan_", "p%s"] == await list_absent_claims(client.parts.database, names)
        found = await check_static_claims(Deployment(client.parts.settings, client.parts.database, None, clock))
    assert [("warning", "KEYTURN_CLAIMS names the static claim tenant, which no user has.")] == [
        (finding.verdict, finding.what) for finding in found
    ]


# Tokens


async def test_every_grant_has_the_claims_that_the_setting_names(
    api: Client, desk: Caller, clock: MovableClock
) -> None:
    """Login with a password, with a code, step-up and refresh; the rest stays in the account."""
    alice, bob = await sign_up(api, clock, "alice"), await sign_up(api, clock, "bob", mfa=False)
    chosen: dict[str, Any] = {"tenant": "acme", "https://example.com/plan": ["a", "b"]}
    for name in ("alice", "bob"):
        await set_claims(desk, (await api.parts.administration.get(name)).id, {**chosen, "hidden": 1})
    opened = (await alice.confirm()).json()
    clock.next_step()
    pending = (await api.post("/step-up", headers=bearer(opened["access_token"]))).json()["mfa_token"]
    stepped_up = (await alice.give_code(mfa_token=pending)).json()
    grant = {"grant_type": "refresh_token", "refresh_token": opened["refresh_token"]}
    refreshed = (await api.post("/token", data=grant)).json()
    repeated = (await api.post("/token", data=grant)).json()
    for issued in (opened, stepped_up, refreshed, repeated, (await bob.give_password()).json()):
        found = claims(issued["access_token"])
        assert chosen == {name: found[name] for name in chosen}
        assert "hidden" not in found
    assert "tenant" not in claims(desk.token)


async def test_a_refresh_and_an_introspection_have_the_present_values(
    api: Client, desk: Caller, clock: MovableClock
) -> None:
    """An earlier access token keeps its own until it expires."""
    bob = await sign_up(api, clock, "bob", mfa=False)
    sub = (await api.parts.administration.get("bob")).id
    reader = basic("reader", await add_client(api, clock, "reader"))
    await set_claims(desk, sub, {"tenant": "acme", "hidden": 1})
    login = (await bob.give_password()).json()
    await set_claims(desk, sub, {"tenant": "globex", "hidden": 2})
    assert "acme" == claims(login["access_token"])["tenant"]
    for token in (login["access_token"], login["refresh_token"]):
        active = await introspect(api, token, reader)
        assert ("globex", "bob", False) == (active["tenant"], active["username"], "hidden" in active)
    grant = {"grant_type": "refresh_token", "refresh_token": login["refresh_token"]}
    refreshed = (await api.post("/token", data=grant)).json()
    assert "globex" == claims(refreshed["access_token"])["tenant"]
    await set_claims(desk, sub, {})
    grant["refresh_token"] = refreshed["refresh_token"]
    assert "tenant" not in claims((await api.post("/token", data=grant)).json()["access_token"])
    assert "tenant" not in await introspect(api, login["access_token"], reader)


async def test_without_the_setting_no_token_has_one(client: Client, clock: MovableClock) -> None:
    bob = await sign_up(client, clock, "bob", mfa=False)
    await client.parts.administration.change("bob", Changes(claims={"tenant": "acme"}), by=OPERATOR)
    assert "tenant" not in claims((await bob.give_password()).json()["access_token"])


async def test_the_longest_token_is_accepted(world: dict[str, Any], open_client: Opener, clock: MovableClock) -> None:
    """The longest `sub`, username, roles and claims, and the longest signature."""
    long = {"issuer": "https://" + "i" * 60 + ".example.com/" + "x" * 150, "audience": "a" * 255}
    more = {**long, "claims": "big", "signing_algorithm": "RS256"}
    async with open_client({**world, **more, "limit_signup": None}) as client:
        roles = [f"{n:02}" + "r" * 62 for n in range(16)]
        name = "x" * 64 + "@" + "y" * 51 + ".example.org"
        big = {"big": "x" * (MAX_BYTES - len('{"big":""}'))}
        lines = [record(name, sub="|" * 255, roles=roles, claims=big)]
        assert (1, []) == await import_lines(client, clock, lines)
        login = {"username": name, "password": "correct horse battery staple"}
        token = (await client.post("/login", json=login)).json()["access_token"]
        assert 4096 < len(token) < 6144
        for path, status in (("/me", 200), ("/verify", 204)):
            assert status == (await client.get(path, headers=bearer(token))).status_code
        reader = basic("reader", await add_client(client, clock, "reader"))
        assert big["big"] == (await introspect(client, token, reader))["big"]


# Changes


async def test_a_change_is_an_event_with_its_actor_and_without_values(
    api: Client, desk: Caller, clock: MovableClock
) -> None:
    """What is stored already is no change; `true` differs from 1."""
    root = await administrator(api, clock)
    sub = await sub_of(api, clock, "bob")
    await set_claims(desk, sub, {"tenant": "s3cret-tenant", "a": True})
    await set_claims(desk, sub, {"a": True, "tenant": "s3cret-tenant"})
    await set_claims(root, sub, {"tenant": "s3cret-tenant", "a": 1})
    await api.parts.administration.change("bob", Changes(claims={}), by=OPERATOR)
    assert 200 == (await desk.call("PATCH", f"users/{sub}", {"disabled": False})).status_code
    events = (await desk.get(f"users/{sub}/events"))["events"]
    assert "s3cret-tenant" not in json.dumps(events)
    assert [
        {"claims": "", "by": "operator"},
        {"claims": "a tenant", "by": f"user:{root.sub}"},
        {"claims": "a tenant", "by": "client:desk"},
    ] == [event["details"] for event in events if event["event"] == "user.claims_changed"]


@pytest.mark.parametrize(
    "given",
    [{"sub": "x"}, {"email": "x"}, {"Tenant": "x"}, {"": "x"}, {"a": None}, {"a": {}}, {"a": 1.5}, {"a": "\x00"},
     {"a": "x" * MAX_BYTES}, [], "x", 1, {"a": 10**400}],
)  # fmt: skip
async def test_claims_that_cannot_be_are_refused(api: Client, desk: Caller, clock: MovableClock, given: Any) -> None:
    """The roles of the same request stay as they were, and the answer has no value."""
    sub = await sub_of(api, clock, "bob")
    await set_claims(desk, sub, {"tenant": "acme"})
    answer = await desk.call("PATCH", f"users/{sub}", {"roles": ["a"], "claims": given})
    assert (422, ["claims"]) == (answer.status_code, [found["field"] for found in answer.json()["errors"]])
    assert len(answer.text) < 1000
    shown = await desk.get(f"users/{sub}")
    assert ([], {"tenant": "acme"}) == (shown["roles"], shown["claims"])
    twice = await api.request(
        "PATCH", f"/admin/users/{sub}", content=b'{"claims": {"a": 1, "a": 2}}',
        headers={**bearer(desk.token), "Content-Type": "application/json"},
    )  # fmt: skip
    assert 400 == twice.status_code


async def test_a_client_changes_no_claims_of_an_administrator(api: Client, desk: Caller, clock: MovableClock) -> None:
    root = await administrator(api, clock)
    assert (403, "forbidden") == await desk.refused("PATCH", f"users/{root.sub}", {"claims": {"tenant": "x"}})
    assert {} == (await root.get(f"users/{root.sub}"))["claims"]


async def test_claims_go_with_the_account(
    api: Client, desk: Caller, clock: MovableClock, open_client: Opener, tmp_path: Path
) -> None:
    """They are in both exports, an import sets them, and the deletion removes them."""
    bob = await sign_up(api, clock, "bob", mfa=False)
    given = {"tenant": "acme", "n": 1, "l": ["\u00fc"]}
    sub = (await api.parts.administration.get("bob")).id
    await set_claims(desk, sub, given)
    token = (await bob.give_password()).json()["access_token"]
    assert given == (await api.get("/me/export", headers=bearer(token))).json()["account"]["claims"]
    lines = await export_lines(api, with_secrets=True)
    assert [given] == [json.loads(line)["claims"] for line in lines]
    async with open_client({"data_dir": tmp_path / "another"}) as other:
        assert (1, []) == await import_lines(other, clock, lines)
        assert given == (await other.parts.administration.show("bob")).claims
        assert lines == await export_lines(other, with_secrets=True)
        _, refused = await import_lines(other, clock, [record("carol", claims={"email": "c@example.com"})])
        assert ["claims: email is a registered claim"] == [entry.reason[:35] for entry in refused]
    assert 204 == (await desk.call("DELETE", f"users/{sub}")).status_code
    row = await api.parts.database.fetch_one("SELECT claims FROM users WHERE id = $1", sub)
    assert row is not None
    assert "{}" == row["claims"]
