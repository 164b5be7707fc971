"""Every operation of the OpenAPI document is described and has examples, and the examples satisfy the schemas."""

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from service.web import descriptions, examples
from tests.openapi_document import document
from tests.openapi_document import operations as listed

SPEC = document()
OPERATIONS = [pytest.param(path, operation, id=operation["operationId"]) for _, path, operation in listed(SPEC)]
TEXT = re.compile(r"application/.*json|application/x-www-form-urlencoded|image/svg\+xml|text/plain.*")


def bodies(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every body of an operation that can be shown as text: its place and its media type object."""
    for media_type, body in operation.get("requestBody", {}).get("content", {}).items():
        yield f"request {media_type}", body
    for status, answer in operation["responses"].items():
        for media_type, body in answer.get("content", {}).items():
            if TEXT.fullmatch(media_type):
                yield f"{status} {media_type}", body


@pytest.mark.parametrize(("path", "operation"), OPERATIONS)
def test_every_operation_is_described(path: str, operation: dict[str, Any]) -> None:
    """The summary is one line without a full stop, and the description has whole sentences."""
    assert operation["summary"], path
    assert not operation["summary"].endswith("."), path
    assert operation["description"].endswith("."), path


@pytest.mark.parametrize(("path", "operation"), OPERATIONS)
def test_every_operation_has_an_example_request(path: str, operation: dict[str, Any]) -> None:
    """The example is a command with the path filled in."""
    (sample,) = operation["x-codeSamples"]
    assert sample["source"].startswith("curl "), path
    assert not set("{}") & set(sample["source"].split("-d")[0]), path


@pytest.mark.parametrize(("path", "operation"), OPERATIONS)
def test_every_body_has_examples_that_satisfy_its_schema(path: str, operation: dict[str, Any]) -> None:
    """This covers requests, answers and problems."""
    for where, body in bodies(operation):
        assert body["examples"], (path, where)
        schema = {**body["schema"], "components": SPEC["components"]} if "schema" in body else {}
        validator = jsonschema.Draft202012Validator(schema)
        for name, example in body["examples"].items():
            assert example["summary"], (path, where, name)
            assert [] == [error.message for error in validator.iter_errors(example["value"])], (path, where, name)


def test_no_description_is_unused() -> None:
    """Each description and example belongs to an operation that exists."""
    names = {operation["operationId"] for _, _, operation in listed(SPEC)}
    assert names == set(descriptions.DESCRIPTIONS)
    assert set(examples.REQUESTS) | set(examples.ANSWERS) <= names


def test_a_verification_code_has_one_name() -> None:
    """The prose says "verification code"; `otp` is a field."""
    texts = [text for _, _, operation in listed(SPEC) for text in (operation["summary"], operation["description"])]
    for text in (*texts, descriptions.ABOUT):
        prose = re.sub("`[^`]*`", "", text)
        assert not re.search(r"\b(otp|totp|one-time (pass)?code|passcode|2fa code)\b", prose, re.IGNORECASE), text
    assert "`token`" in descriptions.ABOUT, "the aliases are explained once"
    assert 1 == json.dumps(SPEC).count("Two aliases exist")
