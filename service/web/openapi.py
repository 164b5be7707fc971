"""The OpenAPI document. Generated clients compile and know every problem; readers see an example of each.

The texts and examples of the operations are in `descriptions.py`, `examples.py` and `problem_examples.py`. They are
imported at the first request for the document, because a service that does not serve it does not need them.
"""

import json
import shlex
from typing import Any
from urllib.parse import urlencode

from fastapi import FastAPI

from service.web.problems import Problem

_SECURITY = {
    "accessToken": {
        "type": "http", "scheme": "bearer", "bearerFormat": "at+jwt",
        "description": "An access token of /login, /login-2fa, /me/restore or /token.",
    },
    "clientBasic": {"type": "http", "scheme": "basic", "description": "A registered client's id and secret."},
    "mfaToken": {
        "type": "http", "scheme": "bearer", "bearerFormat": "mfa+jwt",
        "description": "A pending token of /login, /me/restore, /signup, /enable-mfa or /step-up.",
    },
}  # fmt: skip


def install(app: FastAPI) -> None:
    """Add the problem schema, the security schemes, descriptions and examples, and remove what is wrong."""
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
            _describe(document)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _drop_fastapis_422(document: dict[str, Any]) -> None:
    """Remove the 422 that FastAPI adds to every operation with a parameter. Our operations declare their own."""
    for operations in document["paths"].values():
        for operation in operations.values():
            if "application/json" in operation["responses"].get("422", {}).get("content", {}):
                del operation["responses"]["422"]
    for schema in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(schema, None)


def _tell_generators_the_truth(node: Any) -> None:
    """Remove what makes generated types wrong (tried with openapi-typescript 7).

    The values of a discriminator are strings (OpenAPI 3.1 section 4.8.25). With one, `mfa_required` would have the
    type "true", which no answer has; without it, the two `const` distinguish the answers. And generators type a field
    with a default as always present, in requests too.
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


def _describe(document: dict[str, Any]) -> None:
    """Add the description of the service, and the description and the examples of every operation."""
    from service.web import descriptions

    document["info"]["description"] = descriptions.ABOUT
    document["tags"] = [
        {"name": name, "description": text}
        for name, text in descriptions.TAGS.items()
        if any(name in operation["tags"] for methods in document["paths"].values() for operation in methods.values())
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            operation["description"] = descriptions.DESCRIPTIONS[operation["operationId"]]
            _add_examples(operation, path)
            command = _as_command(method, path, operation)
            operation["x-codeSamples"] = [{"lang": "Shell", "label": "curl", "source": command}]


def _add_examples(operation: dict[str, Any], path: str) -> None:
    """Add examples of the request body and of every answer with a body."""
    from service.web import examples
    from service.web.problem_examples import problem_examples

    name = operation["operationId"]
    for body in operation.get("requestBody", {}).get("content", {}).values():
        if "anyOf" in body["schema"]:  # the body may be absent, but is never null
            body["schema"] = body["schema"]["anyOf"][0]
        body["examples"] = examples.REQUESTS[name]
    for status, answer in operation["responses"].items():
        for media_type, content in answer.get("content", {}).items():
            if media_type.startswith("image/png"):
                continue  # an image cannot be written into the document
            if name == "readyz" and status == "503":
                content["examples"] = examples.NOT_READY
            elif int(status) < 400:
                content["examples"] = examples.ANSWERS[name]
            else:
                content["examples"] = problem_examples(name, path, int(status))


def _as_command(method: str, path: str, operation: dict[str, Any]) -> str:
    """Return the operation's example request as a curl command."""
    query = {}
    for parameter in operation.get("parameters", ()):
        example = parameter.get("example", parameter["schema"].get("examples", [None])[0])
        if parameter["in"] == "path":
            path = path.replace("{" + parameter["name"] + "}", str(example))
        elif example is not None:
            query[parameter["name"]] = example
    url = f"http://localhost:8000{path}" + (f"?{urlencode(query)}" if query else "")
    words = ["curl", *(() if method == "get" else ("-X", method.upper())), url]
    schemes = {name for scheme in operation.get("security", ()) for name in scheme}
    for media_type, body in operation.get("requestBody", {}).get("content", {}).items():
        value = next(iter(body["examples"].values()))["value"]
        if media_type == "application/json":
            words += ["-H", f"Content-Type: {media_type}", "-d", json.dumps(value)]
        else:
            words += [word for key, text in value.items() for word in ("-d", f"{key}={text}")]
    command = shlex.join(words)
    if "accessToken" in schemes:
        command += ' -H "Authorization: Bearer $ACCESS_TOKEN"'
    elif "mfaToken" in schemes and "requestBody" not in operation:
        command += ' -H "Authorization: Bearer $MFA_TOKEN"'
    return command
