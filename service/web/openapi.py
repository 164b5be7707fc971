"""The OpenAPI document, so that generated clients compile and know every refusal."""

from typing import Any

from fastapi import FastAPI

from service.web.problems import Problem

_SECURITY = {
    "accessToken": {"type": "http", "scheme": "bearer", "bearerFormat": "at+jwt"},
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
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            components["schemas"] = dict(sorted(schemas.items()))
            components["securitySchemes"] = _SECURITY
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
