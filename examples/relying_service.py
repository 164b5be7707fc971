"""A relying service: it verifies access tokens by itself, and requires a step-up on one route.

Run in this folder: pip install fastapi uvicorn 'pyjwt[crypto]' && uvicorn relying_service:app --port 9000
"""

import os
import time
from typing import Annotated, Any

import jwt
from fastapi import Depends, FastAPI, HTTPException, Request
from jwt.types import Options

ISSUER = os.environ.get("ISSUER", "http://localhost:8000")
NEEDED: Options = {"require": ["exp", "iat", "sub", "sid", "auth_time", "acr", "username"], "strict_aud": True}
KEY_SET = os.environ.get("KEYTURN", ISSUER) + "/.well-known/jwks.json"
keys = jwt.PyJWKClient(KEY_SET, headers={"User-Agent": "shop"}, timeout=2)  # some proxies refuse Python's own
app = FastAPI()


def user(request: Request) -> dict[str, Any]:
    """Return the claims of a valid access token. Raises 401 otherwise (RFC 6750), 503 if Keyturn does not answer."""
    try:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        key = keys.get_signing_key_from_jwt(token)
        verified = jwt.decode_complete(token, key, ["ES256"], NEEDED, audience=ISSUER, issuer=ISSUER, leeway=10)
        if verified["header"].get("typ") != "at+jwt":
            raise jwt.InvalidTokenError
    except jwt.PyJWKClientConnectionError:
        raise HTTPException(503, headers={"Retry-After": "1"}) from None  # Keyturn does not answer
    except (jwt.PyJWTError, ValueError):
        raise HTTPException(401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'}) from None
    return dict(verified["payload"])


def fresh_user(claims: Annotated[dict[str, Any], Depends(user)]) -> dict[str, Any]:
    """Return the claims if a second factor was proved in the last five minutes. Raises the challenge of RFC 9470."""
    if claims["acr"] != "aal2" or time.time() - claims["auth_time"] > 300:
        challenge = 'Bearer error="insufficient_user_authentication", acr_values="aal2", max_age="300"'
        raise HTTPException(401, headers={"WWW-Authenticate": challenge})
    return claims


@app.get("/orders")
def read_orders(claims: Annotated[dict[str, Any], Depends(user)]) -> dict[str, str]:
    return {"orders of": claims["username"]}


@app.post("/payments")
def pay(claims: Annotated[dict[str, Any], Depends(fresh_user)]) -> dict[str, str]:
    return {"paid by": claims["username"]}
