"""A service that relies on Keyturn: it verifies tokens on its own, and asks for step-up on one route.

pip install fastapi uvicorn 'pyjwt[crypto]' && uvicorn relying_service:app --port 9000
"""

import os
import time
from typing import Annotated, Any

import jwt
from fastapi import Depends, FastAPI, HTTPException, Request

ISSUER = os.environ.get("ISSUER", "http://localhost:8000")
keys = jwt.PyJWKClient(f"{os.environ.get('KEYTURN', ISSUER)}/.well-known/jwks.json")
app = FastAPI()


def person(request: Request) -> dict[str, Any]:
    """The claims of a good access token, or 401 (RFC 6750)."""
    token = request.headers.get("authorization", "").removeprefix("Bearer ")
    try:
        claims: dict[str, Any] = jwt.decode(
            token, keys.get_signing_key_from_jwt(token), algorithms=["ES256"], issuer=ISSUER, audience=ISSUER,
            options={"require": ["exp", "iat", "sub", "sid", "auth_time", "acr"], "strict_aud": True}, leeway=5,
        )  # fmt: skip
        if jwt.get_unverified_header(token).get("typ") == "at+jwt":
            return claims
    except (jwt.PyJWTError, ValueError):
        pass
    raise HTTPException(401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})


Person = Annotated[dict[str, Any], Depends(person)]


def fresh_person(claims: Person) -> dict[str, Any]:
    """The same, if a second factor was proved in the last five minutes, or the challenge to do so (RFC 9470)."""
    if claims["acr"] == "aal2" and time.time() - claims["auth_time"] <= 300:
        return claims
    challenge = 'Bearer error="insufficient_user_authentication", acr_values="aal2", max_age="300"'
    raise HTTPException(401, headers={"WWW-Authenticate": challenge})


@app.get("/orders")
def read_orders(claims: Person) -> dict[str, str]:
    return {"orders of": claims["username"]}


@app.post("/payments")
def pay(claims: Annotated[dict[str, Any], Depends(fresh_person)]) -> dict[str, str]:
    return {"paid by": claims["username"]}
