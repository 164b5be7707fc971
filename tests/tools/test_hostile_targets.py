"""The targets of `bench.hostile` cover the whole of openapi.json, and the valid requests are valid."""

import random
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import jsonschema
import pytest

from bench.accounts import ORDINARY, Accounts, operations
from bench.mutators import Target, flipped, mutators_of
from bench.worlds import Person, Tokens

LINKS = {path: f"ktl_{path}" for path in ("/email/confirm", "/email/cancel", "/password-reset/confirm")}
ACCOUNTS = Accounts(
    "alice", Tokens("a.b.c", "ktr_x"), Person("bobby", "A" * 32, "d.e.f"), {}, "a secret",
    "Vb3k", "g.h.i", "ktl_invitation", LINKS, (),
)  # fmt: skip
LEFT_OUT = {"device_token", "recovery_code", "scope", "token_type_hint"}
OPERATIONS = {(method, path): operation for method, path, operation in operations()}

each_set = pytest.mark.parametrize(
    "make", [ACCOUNTS.targets, ACCOUNTS.targets_of_nobody], ids=["with credentials", "without"]
)


def body_schemas(operation: dict[str, Any]) -> list[dict[str, Any]]:
    return [content["schema"] for content in operation.get("requestBody", {}).get("content", {}).values()]


@each_set
def test_every_operation_is_a_target(make: Callable[[], list[Target]]) -> None:
    """Every parameter of a path has a value."""
    targets = make()
    assert set(OPERATIONS) == {(target.method, target.template) for target in targets}
    assert len(OPERATIONS) == len(targets)
    assert [] == [target.path for target in targets if "{" in target.path or quote("{") in target.path]


@each_set
def test_every_field_has_a_value_that_its_schema_allows(make: Callable[[], list[Target]]) -> None:
    """Only the fields that are named here are left out, and an invitation where no credentials are valid."""
    left_out = LEFT_OUT if make == ACCOUNTS.targets else LEFT_OUT | {"invitation"}
    for target in make():
        schemas = body_schemas(OPERATIONS[target.method, target.template])
        assert len(schemas) == (target.body is not None)
        for schema in schemas:
            assert target.body is not None
            assert set(schema["properties"]) - left_out == set(target.body), target.template
            jsonschema.validate(dict(target.body), schema)


def test_a_value_is_left_out_on_purpose_only() -> None:
    """A field of no operation needs no value."""
    assert {name for name, value in ORDINARY.items() if value is None} == LEFT_OUT | {"invitation"}
    fields = {name for one in OPERATIONS.values() for schema in body_schemas(one) for name in schema["properties"]}
    parameters = {part[1:-1] for _, path in OPERATIONS for part in path.split("/") if part.startswith("{")}
    assert set(ORDINARY) <= fields | parameters


@pytest.mark.parametrize("target", ACCOUNTS.targets(), ids=lambda target: f"{target.method} {target.template}")
def test_every_mutator_makes_each_target_wrong(target: Target) -> None:
    """No draw is the valid request, and none has a body that is valid by another way."""
    for mutator in (*mutators_of(target), flipped):
        for seed in range(15):
            request = mutator(target, random.Random(seed))  # noqa: S311 -- the same in every run
            assert target.whole() != request, mutator
            if not target.needs_body and mutator in mutators_of(target):
                assert not request.endswith((b"\r\n\r\n", b"\r\n\r\nnull")) or b"chunked" in request, mutator


def test_an_operation_of_the_admin_api_has_a_token_that_it_accepts() -> None:
    """A wrong request would take effect."""
    for target in ACCOUNTS.targets():
        if target.template.startswith("/admin"):
            assert ACCOUNTS.admin_token == target.bearer
