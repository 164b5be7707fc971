"""Documents for programs: the key set (RFC 7517), the metadata (RFC 8414), metrics and the container's probes."""

import asyncio
from hashlib import sha256
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from service.errors import StoreUnavailable
from service.storage.ephemeral import EphemeralUnavailable
from service.telemetry import metrics
from service.telemetry.metrics import MEDIA_TYPE
from service.tokens.keys import JWKS_MAX_AGE
from service.web.context import WebContext
from service.web.problems import error_responses
from service.web.wire import STOPPING_KEY


class Jwk(BaseModel):
    """A public key (RFC 7517, RFC 7518 section 6, RFC 8037)."""

    kty: str
    kid: str
    use: str
    alg: str
    crv: str | None = None
    x: str | None = None
    y: str | None = None
    n: str | None = None
    e: str | None = None


class JwkSet(BaseModel):
    keys: list[Jwk]


class Metadata(BaseModel):
    """Authorization server metadata (RFC 8414 section 2)."""

    issuer: str
    jwks_uri: str
    token_endpoint: str
    revocation_endpoint: str
    introspection_endpoint: str
    grant_types_supported: list[str]
    response_types_supported: list[str] = Field(description="Empty: there is no authorization endpoint.")
    token_endpoint_auth_methods_supported: list[str]
    revocation_endpoint_auth_methods_supported: list[str]
    introspection_endpoint_auth_methods_supported: list[str]
    acr_values_supported: list[str]
    keyturn_email_endpoint: str | None = Field(
        None, description="`POST /email`; absent if the service sends no messages, because it answers 404 then."
    )
    keyturn_password_reset_endpoint: str | None = Field(
        None, description="`POST /password-reset`; absent if the service sends no messages."
    )
    keyturn_attack_proof: str | None = Field(
        None,
        description="SHA-256 in hex of the proof that `keyturn attack` needs; absent unless the operator set one.",
    )

    @classmethod
    def of(cls, issuer: str, *, sends_messages: bool, attack_proof: str | None) -> Self:
        confidential = ["client_secret_basic", "client_secret_post"]
        return cls(
            issuer=issuer,
            jwks_uri=f"{issuer}/.well-known/jwks.json",
            token_endpoint=f"{issuer}/token",
            revocation_endpoint=f"{issuer}/revoke",
            introspection_endpoint=f"{issuer}/introspect",
            grant_types_supported=["refresh_token", "client_credentials"],
            response_types_supported=[],
            token_endpoint_auth_methods_supported=["none", *confidential],
            revocation_endpoint_auth_methods_supported=["none", *confidential],
            introspection_endpoint_auth_methods_supported=confidential,
            acr_values_supported=["aal1", "aal2"],
            keyturn_email_endpoint=f"{issuer}/email" if sends_messages else None,
            keyturn_password_reset_endpoint=f"{issuer}/password-reset" if sends_messages else None,
            keyturn_attack_proof=None if attack_proof is None else sha256(attack_proof.encode()).hexdigest(),
        )


class Alive(BaseModel):
    status: Literal["alive"] = "alive"


class Readiness(BaseModel):
    """`degraded`: Redis cannot be used; rate limits are smaller, and each worker counts by itself.

    `draining`: the process is stopping. It still answers requests; send new connections to another replica.
    """

    status: Literal["ready", "degraded", "unavailable", "draining"]
    database: Literal["up", "down"]
    database_reason: str | None = Field(
        None, description="Why the database cannot be used, for operators; null while it can be used."
    )
    redis: Literal["up", "down"] | None = Field(description="Null when no Redis is configured.")
    redis_reason: str | None = Field(
        None,
        description="Why Redis cannot be used, for operators, without secrets; null while it can be used.",
    )


def routes(web: WebContext) -> APIRouter:
    parts, settings = web.parts, web.settings
    router = APIRouter(tags=["Services"])
    attack_proof = None if settings.attack_proof is None else settings.attack_proof.get_secret_value()
    metadata = Metadata.of(
        settings.issuer, sends_messages=settings.message_transport is not None, attack_proof=attack_proof
    )

    @router.get(
        "/.well-known/oauth-authorization-server",
        operation_id="metadata",
        summary="Show the authorization server metadata",
        response_model_exclude_none=True,
    )
    @router.get(
        "/.well-known/openid-configuration",
        operation_id="openidConfiguration",
        summary="Show the authorization server metadata at the path of OpenID Connect",
        response_model_exclude_none=True,
    )
    async def get_metadata(response: Response) -> Metadata:
        response.headers["Cache-Control"] = "public, max-age=3600"
        return metadata

    path = urlsplit(settings.issuer).path
    if path and not set("{}") & set(path):  # Starlette takes braces in a path for a parameter
        # An issuer with a path: clients insert the well-known part before it (RFC 8414 section 3.1), or append it
        # (OpenID Connect Discovery section 4). Behind a proxy that strips the path, the routes above serve the
        # second.
        for name in ("oauth-authorization-server", "openid-configuration"):
            router.add_api_route(
                f"/.well-known/{name}{path}",
                get_metadata,
                operation_id=f"{name}-of-the-path",
                include_in_schema=False,
                response_model_exclude_none=True,
            )

    @router.get(
        "/.well-known/jwks.json",
        operation_id="jwks",
        summary="Show the public keys that verify access tokens",
        response_model=JwkSet,
        response_model_exclude_none=True,
        responses=error_responses(),
    )
    async def get_jwks(response: Response) -> dict[str, Any]:
        now = parts.clock()
        response.headers["Cache-Control"] = f"public, max-age={int(JWKS_MAX_AGE.total_seconds())}"
        return await parts.keys.jwks(now)

    @router.get(
        "/metrics",
        operation_id="metrics",
        summary="Show the metrics for Prometheus",
        response_class=Response,
        responses={200: {"content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}},
    )
    async def get_metrics() -> Response:
        return Response(await asyncio.to_thread(metrics.render, parts.database_metrics), media_type=MEDIA_TYPE)

    @router.get("/livez", operation_id="livez", summary="Check whether the process runs")
    async def get_livez() -> Alive:
        return Alive()

    @router.get(
        "/readyz",
        operation_id="readyz",
        summary="Check whether the replica can serve",
        responses={
            503: {"model": Readiness, "description": "The database cannot be used, or the process is stopping."}
        },
    )
    async def get_readyz(request: Request, response: Response) -> Readiness:
        readiness = await look()
        if getattr(request.state, STOPPING_KEY, False):
            readiness.status = "draining"
        if readiness.status in {"unavailable", "draining"}:
            response.status_code = 503
            response.headers["Retry-After"] = "1"
        return readiness

    async def look() -> Readiness:
        try:
            await parts.database.probe()
        except StoreUnavailable as error:
            return Readiness(status="unavailable", database="down", database_reason=error.why or None, redis=None)
        if settings.redis_url is None:
            return Readiness(status="ready", database="up", redis=None)
        try:
            await parts.ephemeral.ping()
        except EphemeralUnavailable as error:
            return Readiness(status="degraded", database="up", redis="down", redis_reason=error.reason)
        return Readiness(status="ready", database="up", redis="up")

    return router
