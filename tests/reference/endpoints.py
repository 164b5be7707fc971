"""`docs/reference/endpoints.md`: every operation of the OpenAPI document."""

from collections.abc import Iterator
from typing import Any

from tests.openapi_document import document
from tests.reference.markdown import page, paragraph, table

_SCHEMES = {
    "accessToken": "access token",
    "mfaToken": "pending token",
    "clientBasic": "registered client (Basic, or in the form)",
}


def write() -> str:
    """The page as Markdown."""
    spec = document()
    parts = [
        paragraph(
            "The whole API, with schemas and examples, is in `openapi.json` in the repository, and at "
            "`/docs` where `KEYTURN_DOCS` allows it. [Errors](errors.md) says what a caller does about a problem. "
            "The lists of problems below leave out what does not depend on the operation, such as 405, 413 and 503."
        ),
    ]
    for tag in spec["tags"]:
        chosen = [
            (method, path, operation)
            for path, methods in spec["paths"].items()
            for method, operation in methods.items()
            if tag["name"] in operation["tags"]
        ]
        parts += [f"## {tag['name']}\n", paragraph(tag["description"])]
        parts += [
            table(
                ("operation", "what it does"),
                [(f"`{method.upper()} {path}`", operation["summary"]) for method, path, operation in chosen],
            )
        ]
        parts += ["\n".join(_section(spec, *operation)) for operation in chosen]
    return page("Endpoints", *parts)


def _section(spec: dict[str, Any], method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"### {method.upper()} {path}\n"
    yield paragraph(operation["description"])
    schemes = [name for scheme in operation.get("security", ()) for name in scheme]
    if schemes:
        # At /introspect `{}` stands for the id and the secret in the form, which OpenAPI cannot express.
        is_optional = {} in operation["security"] and "requestBody" in operation
        is_optional = is_optional and operation["operationId"] != "introspect"
        yield paragraph(f"Authentication: {_SCHEMES[schemes[0]]}{', or none' if is_optional else ''}.")
    fields = [*_parameters(operation), *_body(spec, operation)]
    if fields:
        yield table(("field", "in", "meaning"), fields)
    sentences = []
    for status, answer in operation["responses"].items():
        if int(status) < 400:
            schemas = _names(answer)
            sentences.append(f"Answer: {status}{f' with {schemas}' if schemas else ''}.{_headers(answer)}")
    codes = _codes(operation)
    yield paragraph(" ".join([*sentences, *([f"Problems: {codes}."] if codes else [])]))


def _parameters(operation: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for parameter in operation.get("parameters", ()):
        yield f"`{parameter['name']}`", parameter["in"], parameter["description"]


def _body(spec: dict[str, Any], operation: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for media_type, body in operation.get("requestBody", {}).get("content", {}).items():
        schema = _resolved(spec, body["schema"])
        for name, field in schema["properties"].items():
            need = "" if name in schema.get("required", ()) else " (optional)"
            yield f"`{name}`", ("JSON" if media_type.endswith("json") else "form") + need, _described(field)


def _described(field: dict[str, Any]) -> str:
    texts = [field, *field.get("anyOf", ())]
    return next((text["description"] for text in texts if "description" in text), "")


def _resolved(spec: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    found: dict[str, Any] = schema if reference is None else spec["components"]["schemas"][reference.split("/")[-1]]
    return found


def _names(answer: dict[str, Any]) -> str:
    """What the answer's body is: names of schemas, or media types."""
    found = []
    for media_type, body in answer.get("content", {}).items():
        schema = body.get("schema", {})
        references = [choice["$ref"] for choice in (schema, *schema.get("oneOf", ())) if "$ref" in choice]
        found += [f"`{reference.split('/')[-1]}`" for reference in references] or [f"`{media_type}`"]
    return " or ".join(found)


def _headers(answer: dict[str, Any]) -> str:
    headers = answer.get("headers", {})
    return f" Headers: {', '.join(f'`{name}`' for name in headers)}." if headers else ""


def _codes(operation: dict[str, Any]) -> str:
    """The codes of the examples, by status; those of every body and every database call are left out."""
    found = []
    for status, answer in operation["responses"].items():
        if status in {"400", "401", "403", "404", "406", "409", "422", "429"}:
            for body in answer.get("content", {}).values():
                found += [f"{status} `{name}`" for name in body["examples"] if name != "malformed_request"]
    return ", ".join(found)
