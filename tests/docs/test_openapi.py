"""The OpenAPI document describes what the service does: clients are generated from it, and the service is tested."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi import FastAPI

from service import errors
from service.app import create_app
from service.components import open_components
from service.errors import ServiceError
from service.origin import OPERATOR
from service.settings import Settings
from service.users.passwords import CHEAPEST
from service.web.admin_fields import TAG
from service.web.problems import MEDIA_TYPE, STATUS, WIRE
from tests.harness.administrators import SCOPES
from tests.harness.databases import PATIENT
from tests.harness.people import PASSWORD, MovableClock
from tests.harness.rounds import rounds
from tests.harness.servers import REPOSITORY, make_schema
from tests.openapi_document import document, operations, text

PROBLEM = {"schema": {"$ref": "#/components/schemas/Problem"}}
READINESS = ("get", "/readyz", 503)  # not an error but the answer of a probe


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    return document()


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of the document."""
    if isinstance(node, dict):
        yield node
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from nodes(inner)


def test_the_document_in_the_repository_is_current() -> None:
    """A change of the interface changes openapi.json, too: `make openapi`."""
    assert text() == (REPOSITORY / "openapi.json").read_text("utf-8")


def test_every_operation_has_a_unique_name(spec: dict[str, Any]) -> None:
    """Generated clients name their functions by it, so it is chosen, and not derived from path and method."""
    names = [operation["operationId"] for _, _, operation in operations(spec)]
    assert len(names) == len(set(names))
    assert [] == [name for name in names if re.fullmatch("[a-z][A-Za-z0-9]*", name) is None]


def test_every_error_is_a_problem_with_a_listed_status(spec: dict[str, Any]) -> None:
    """It has the media type that the service sends: with another one, TypeScript clients do not compile."""
    for method, path, operation in operations(spec):
        for status, answer in operation["responses"].items():
            if int(status) >= 400 and (method, path, int(status)) != READINESS:
                assert int(status) in {*STATUS.values(), *WIRE}, (method, path, status)
                content = {kind: {"schema": body["schema"]} for kind, body in answer["content"].items()}
                assert path in {"/token", "/revoke", "/introspect"} or {MEDIA_TYPE: PROBLEM} == content, (
                    path,
                    status,
                )


def test_an_operation_with_a_body_documents_its_errors(spec: dict[str, Any]) -> None:
    """The body may be malformed, too large, of another type, or have an invalid field."""
    for method, path, operation in operations(spec):
        if "application/json" in operation.get("requestBody", {}).get("content", {}):
            assert {"400", "413", "415", "422"} <= set(operation["responses"]), (method, path)


def test_an_operation_with_a_token_documents_it(spec: dict[str, Any]) -> None:
    """It names a security scheme that exists, and 401 for a missing token."""
    for method, path, operation in operations(spec):
        for scheme in operation.get("security", ()):
            assert set(scheme) <= set(spec["components"]["securitySchemes"])
            assert "401" in operation["responses"], (method, path)


def test_a_boolean_separates_the_two_answers_of_a_login(spec: dict[str, Any]) -> None:
    """`if (answer.mfa_required)` narrows the type by two constants, since a discriminator can only be a string."""
    schemas = spec["components"]["schemas"]
    answer = spec["paths"]["/login"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    names = [ref["$ref"].rpartition("/")[2] for ref in answer["oneOf"]]
    assert ["TokenAnswer", "PendingAnswer"] == names
    assert [False, True] == [schemas[name]["properties"]["mfa_required"]["const"] for name in names]
    assert all("mfa_required" in schemas[name]["required"] for name in names)
    assert not [node for node in nodes(spec) if "discriminator" in node]


def test_every_reference_resolves(spec: dict[str, Any]) -> None:
    """No schema is unused."""
    used = {node["$ref"] for node in nodes(spec) if isinstance(node.get("$ref"), str)}
    assert {f"#/components/schemas/{name}" for name in spec["components"]["schemas"]} == used


def test_the_table_of_statuses_is_complete() -> None:
    """Every error of the service has a status, and a code that means nothing else."""

    def below(kind: type[ServiceError]) -> Iterator[type[ServiceError]]:
        for inner in kind.__subclasses__():
            yield inner
            yield from below(inner)

    refusals = [kind for kind in below(ServiceError) if kind.__module__ == errors.__name__ and "code" in dir(kind)]
    assert set(refusals) <= set(STATUS)
    codes = Counter([kind.code for kind in STATUS] + [code for code, _ in WIRE.values()])
    # Some codes have two sources: the wire answers 404, too; OAuth has its own code for an invalid request; a missing
    # and an invalid token share a code, and so do a wrong code and a wrong recovery code, a wrong clock and one
    # that was corrected, and a database that is unreachable and one without the tables.
    twice = {errors.NotFound.code, errors.InvalidRequest.code, errors.InvalidToken.code, errors.InvalidCode.code}
    twice |= {errors.StoreUnavailable.code, errors.CodeOutOfStep.code}
    assert twice == {code for code, times in codes.items() if times > 1}
    assert all(re.fullmatch("[a-z_]+", code) for code in codes)


UNLIMITED: dict[str, Any] = {
    "limit_signup": None,
    "limit_login": None,
    "limit_login_address": None,
    "limit_login_username": None,
}


def accepts(*statuses: str) -> dict[str, Any]:
    """Configure an operation: a request that its schema allows may get one of these statuses, or 2xx."""
    return {"checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", *statuses]}}}


def explore(app: FastAPI, tokens: dict[str, str], of_operations: list[dict[str, Any]]) -> Counter[Any]:
    """Let Schemathesis send requests to every operation that is enabled, from a fixed seed.

    It sends what the document allows and what it forbids, with and without `tokens`. Return how often each operation
    answered with each status.
    """
    import schemathesis  # a second to load, which only these tests need
    from schemathesis.engine import events, from_schema

    config = schemathesis.Config.from_dict(
        {
            "seed": 13,
            "cache": {"enabled": False},
            "continue-on-failure": True,
            # The usual statuses lack 413: a body that the document forbids may be very large.
            "checks": {"negative_data_rejection": {"expected-statuses": ["4xx", "5xx"]}},
            "generation": {
                "deterministic": True,
                "max-examples": rounds(6, long=20, everything=100),
                "database": "none",
            },
            "auth": {"openapi": {name: {"bearer": token} for name, token in tokens.items()}},
            "operations": of_operations,
        }
    )
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=config)
    seen: Counter[Any] = Counter()
    failures = []
    for event in from_schema(schema).execute():
        assert not isinstance(event, events.NonFatalError | events.FatalError), event
        if isinstance(event, events.ScenarioFinished):
            for case, exchange in event.recorder.interactions.items():
                assert exchange.response is not None
                seen[event.recorder.cases[case].value.operation.label, exchange.response.status_code] += 1
            for checks in event.recorder.checks.values():
                failures += [check.failure_info for check in checks if check.failure_info is not None]
    assert [] == [f"{found.failure.title}: {found.failure.message}\n{found.code_sample}" for found in failures]
    return seen


@pytest.mark.rounds
def test_the_service_conforms_to_its_document(tmp_path: Path) -> None:
    """Every status, header, media type and body of the answers is documented.

    What the document forbids is refused, and what it allows is not, with two exceptions that it describes in words:
    /login-2fa takes one of two fields, and a common password is refused.
    """
    from schemathesis.python import asgi

    chosen = Settings(recovery_delay="72h", data_dir=tmp_path / "data", **UNLIMITED)
    make_schema(chosen)
    app = create_app(chosen, MovableClock(), hash_cost=CHEAPEST, timeouts=PATIENT)
    try:
        with asgi.get_client(cast(Any, app)) as client:
            carol = {"username": "carol", "password": PASSWORD}  # the examples of the document sign bob up
            client.post("/signup", json=carol)
            alice: Any = {"username": "alice", "password": PASSWORD, "enable_mfa": True}
            pending = client.post("/signup", json=alice).json()["mfa_token"]
            access = client.post("/login", json=carol).json()["access_token"]
        # No generated text is an invitation, and most bodies have one: more of them are needed.
        invited = {**accepts("403", "409", "422", "429"), "generation": {"max-examples": 30}}
        of_operations = [
            {"include-operation-id": "login2fa", **accepts("401", "409", "422", "429")},
            {"include-operation-id": "signup", **invited},
            *({"include-operation-id": name, **accepts("400", "401")} for name in ("token", "revoke", "introspect")),
        ]
        seen = explore(app, {"accessToken": access, "mfaToken": pending}, of_operations)
    finally:
        asgi.shutdown_lifespans()
    reached = {
        ("POST /signup", 201),
        ("POST /login", 200),
        ("POST /enable-mfa", 200),
        ("GET /qrcode/{username}", 200),
    }
    assert reached <= set(seen), "too few operations succeeded to prove anything"


@pytest.mark.rounds
def test_the_admin_api_conforms_to_its_document(tmp_path: Path) -> None:
    """A client with every scope gets documented answers only.

    What the document allows may still name no account (404), be a name that is taken (409), or break a rule that the
    document has in words (422): a username and a password are given together, a cursor is of the same list, and a
    static claim is not a registered one.
    """
    from schemathesis.python import asgi

    chosen = Settings(data_dir=tmp_path / "data", admin_api="on", **UNLIMITED)
    make_schema(chosen)
    clock = MovableClock()
    app = create_app(chosen, clock, hash_cost=CHEAPEST)
    secret = asyncio.run(_add_client(chosen, clock))
    try:
        with asgi.get_client(cast(Any, app)) as client:
            granted = client.post("/token", data={"grant_type": "client_credentials"}, auth=("desk", secret))
            access = granted.json()["access_token"]
        of_operations = [
            {"include-tag": TAG, **accepts("403", "404", "409", "422")},
            {"exclude-tag": TAG, "enabled": False},
        ]
        seen = explore(app, {"accessToken": access}, of_operations)
    finally:
        asgi.shutdown_lifespans()
    paths = {name for name, _ in seen}
    assert {
        f"{method.upper()} {path}" for method, path, found in operations(document()) if TAG in found["tags"]
    } == paths
    reached = {
        ("GET /admin/users", 200),
        ("POST /admin/users", 201),
        ("GET /admin/users/{sub}", 404),
        ("GET /admin/events", 200),
        ("POST /admin/clients", 201),
        ("POST /admin/invitations", 201),
    }
    assert reached <= set(seen), "too few operations succeeded to prove anything"


async def _add_client(settings: Settings, clock: MovableClock) -> str:
    async with open_components(settings, clock, hash_cost=CHEAPEST) as parts:
        secret = await parts.clients.add("desk", SCOPES, by=OPERATOR)
        assert secret is not None
        return secret
