"""The OpenAPI document, so that generated clients compile and know every refusal."""

from typing import Any

from fastapi import FastAPI

from service.web.problems import Problem

_SECURITY = {
    "accessToken": {"type": "http", "scheme": "bearer", "bearerFormat": "at+jwt"},
    "clientBasic": {"type": "http", "scheme": "basic", "description": "A registered client's id and secret."},
    "mfaToken": {"type": "http", "scheme": "bearer", "bearerFormat": "mfa+jwt"},
}


def install(app: FastAPI) -> None:
    """Add what FastAPI cannot say: the problem schema under its own media type, and the two bearer tokens."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            components = document.setdefault("components", {})
            schemas = components.setdefault("schemas", {})
            problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= problem.pop("$defs", {})
            schemas["Problem"] = problem
            _drop_fastapis_422(document)
            _tell_generators_the_truth(document)
            components["schemas"] = dict(sorted(schemas.items()))
            components["securitySchemes"] = _SECURITY
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _drop_fastapis_422(document: dict[str, Any]) -> None:
    """FastAPI adds one of its own form to every operation with a parameter; ours say when they have one."""
    for operations in document["paths"].values():
        for operation in operations.values():
            if "application/json" in operation["responses"].get("422", {}).get("content", {}):
                del operation["responses"]["422"]
    for schema in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(schema, None)


def _tell_generators_the_truth(node: Any) -> None:
    """Remove what makes generated types wrong (tried with openapi-typescript 7).

    A discriminator has strings as its values (OpenAPI 3.1 section 4.8.25): with one, `mfa_required` would be typed
    "true", which no answer ever is; without it, the two `const` tell the answers apart. And a field with a default
    would be typed as always there, in requests too.
    """
    if isinstance(node, list):
        for item in node:
            _tell_generators_the_truth(item)
    elif isinstance(node, dict):
        if {"true", "false"} & set(node.get("discriminator", {}).get("mapping", ())):
            del node["discriminator"]
        for schema in node.get("properties", {}).values():
            schema.pop("default", None)
        for item in node.values():
            _tell_generators_the_truth(item)
