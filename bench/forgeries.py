"""Hostile tokens: genuine ones altered in many ways, and Project Wycheproof's JWS vectors.

The service issued none of them, so it must refuse each. A second spelling of a genuine token is left out, because it
is equivalent to the token (each ES256 signature has a second valid form, see tests/tokens/test_tokens.py).
"""

import base64
import hashlib
import hmac
import itertools
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

VECTORS = Path(__file__).parents[2] / "shared" / "vectors" / "json_web_signature_test.json"
FLIPS = 40
"""Number of characters of each genuine token that are changed, one at a time."""

_ES256 = jwt.get_algorithm_by_name("ES256")


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def compact(header: Mapping[str, Any], claims: Mapping[str, Any], signature: bytes) -> str:
    return ".".join([_part(header), _part(claims), b64(signature)])


def _part(members: Mapping[str, Any]) -> str:
    return b64(json.dumps(members, separators=(",", ":")).encode())


def wycheproof() -> list[str]:
    """Return the 401 vectors, also those that are valid under their own keys; none if the file is missing."""
    return [_text(test["jws"]) for _, test in _vectors()]


def accepted_by_pyjwt_alone() -> int:
    """Return how many of the invalid vectors PyJWT accepts under the vector's own key."""
    accepted = 0
    for group, test in _vectors():
        key = group.get("public") or group["private"]
        if test["result"] != "invalid":
            continue
        try:
            proven = jwt.PyJWK(key, algorithm=key.get("alg"))
            jwt.PyJWS().decode_complete(_text(test["jws"]), proven.key, algorithms=[str(proven.algorithm_name)])
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
        accepted += 1
    return accepted


def _vectors() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    if not VECTORS.exists():
        return []
    groups = json.loads(VECTORS.read_text("utf-8"))["testGroups"]
    return [(group, test) for group in groups for test in group["tests"]]


def _text(token: object) -> str:
    return token if isinstance(token, str) else json.dumps(token)


def of_jwt(token: str, published: Mapping[str, Any], chance: random.Random) -> Iterator[str]:
    """Yield altered forms of a genuine JWT. `published` is a key of the JWKS, which an attacker has too."""
    header, claims = (json.loads(unb64(part)) for part in token.split(".")[:2])
    signature = unb64(token.rpartition(".")[2])
    bent = itertools.chain(
        _other_algorithms(header, claims, signature, published),
        _own_keys(header, claims, published),
        _other_claims(header, claims, signature),
        _other_signatures(token, signature),
        other_spellings(token, chance),
    )
    yield from (altered for altered in bent if altered != token)  # the token may already have the changed claims


def _other_algorithms(
    header: Mapping[str, Any], claims: Mapping[str, Any], signature: bytes, published: Mapping[str, Any]
) -> Iterator[str]:
    for none in ("none", "None", "NONE", "nOnE", "", None):
        for last in (b"", signature):
            yield compact({**header, "alg": none}, claims, last)
    public = jwt.PyJWK(dict(published)).key
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    raw = public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    known = [pem, pem.strip(), der, raw, json.dumps(published).encode(), b"", b"\0", bytes(32), b"secret", b"keyturn"]
    for digest in ("sha256", "sha384", "sha512"):
        for secret in known:
            bent = {**header, "alg": f"HS{digest[3:]}"}
            yield compact(bent, claims, hmac.digest(secret, compact(bent, claims, b"")[:-1].encode(), digest))
    for other in ("ES384", "ES512", "ES256K", "RS256", "PS256", "EdDSA", "HS256", "es256", "A128KW", 256, ["ES256"]):
        if other != header["alg"]:
            yield compact({**header, "alg": other}, claims, signature)


def _own_keys(header: Mapping[str, Any], claims: Mapping[str, Any], published: Mapping[str, Any]) -> Iterator[str]:
    """Yield tokens correctly signed with the attacker's key, which the header contains or names like another key."""
    mine = ec.generate_private_key(ec.SECP256R1())
    jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(mine.public_key()))
    bent: list[Mapping[str, Any]] = [
        {}, {"jwk": jwk}, {"jwk": jwk, "kid": None}, {"jku": "http://127.0.0.1:1/jwks.json"}, {"x5c": ["MIIB"]},
        {"x5u": "http://127.0.0.1:1/x"}, {"kid": published["kid"]}, {"kid": "../../../dev/null"}, {"kid": ""},
        {"kid": "' OR '1'='1"}, {"kid": [published["kid"]]}, {"kid": 1}, {"kid": "a" * 500}, {"kid": "\ud800"},
        {"crit": ["b64"], "b64": False}, {"crit": ["exp"]}, {"crit": []}, {"zip": "DEF"}, {"cty": "JWT"},
    ]  # fmt: skip
    for more in bent:
        for typ in ("at+jwt", "mfa+jwt", "JWT", None):
            head = {"typ": typ, "alg": "ES256", "kid": published["kid"], **more}
            message = compact(head, claims, b"")[:-1]
            yield f"{message}.{b64(_ES256.sign(message.encode(), mine))}"


def _other_claims(header: Mapping[str, Any], claims: Mapping[str, Any], signature: bytes) -> Iterator[str]:
    """Yield other claims with the old signature."""
    for name, value in (
        ("sub", "admin"), ("username", "admin"), ("roles", ["admin"]), ("exp", 9_999_999_999), ("aud", "*"),
        ("iss", ""), ("sid", "x"), ("acr", "aal2"), ("amr", ["pwd", "otp", "mfa"]), ("token_use", "access"),
        ("epoch", 0), ("x", 1), ("nbf", 0), ("jti", "x"), ("auth_time", 9_999_999_999), ("client_id", "bench"),
        ("scope", "admin"),
    ):  # fmt: skip
        yield compact(header, {**claims, name: value}, signature)
        yield compact(header, {other: v for other, v in claims.items() if other != name} | {"y": 1}, signature)
    for typ in ("JWT", "at+jwt", "mfa+jwt", "AT+JWT", "application/at+jwt", "dpop+jwt", None, 1):
        if typ != header["typ"]:
            yield compact({**header, "typ": typ}, claims, signature)


def _other_signatures(token: str, signature: bytes) -> Iterator[str]:
    message = token.rpartition(".")[0]
    size, half = len(signature), len(signature) // 2
    others = [
        b"", bytes(size), b"\xff" * size, signature[:-1], signature + b"\0", b"\0" + signature, signature * 2,
        signature[::-1], signature[half:] + signature[:half], signature[:half], hashlib.sha256(signature).digest(),
        bytes(size - 1) + b"\1", bytes(half - 1) + b"\1" + bytes(half - 1) + b"\1",
        encode_dss_signature(*(int.from_bytes(part, "big") for part in (signature[:half], signature[half:]))),
    ]  # fmt: skip
    for bit in range(0, 8 * size, 16):
        others.append((int.from_bytes(signature, "big") ^ 1 << bit).to_bytes(size, "big"))
    for other in others:
        yield f"{message}.{b64(other)}"


def other_spellings(token: str, chance: random.Random) -> Iterator[str]:
    """Yield altered texts of a JWT or of a refresh token."""
    for other in (
        f"{token}=", f"{token}==", f"{token}.", f".{token}", f"{token}A", token[:-1], token[1:], token * 2,
        token.upper(), token.swapcase(), f"{token}.{token}", token.replace(".", ".."), token[::-1],
        f"{token[:9]} {token[9:]}",
        token.replace("_", "/").replace("-", "+") + "=", f"{token}\x00", f'"{token}"', f"%20{token}", f"{token}%3D",
        token.replace(".", "=.", 1), f"{token[:20]}\u0430{token[21:]}", json.dumps({"token": token}), f"{token},",
        token + "A" * 6144,
    ):  # fmt: skip
        if other != token:
            yield other
    for _ in range(FLIPS):
        place = chance.randrange(len(token) - 1)  # not the last: some of its bits have no meaning
        yield token[:place] + chance.choice([c for c in "AZaz09-_" if c != token[place]]) + token[place + 1 :]


def of_refresh(token: str, chance: random.Random) -> Iterator[str]:
    """Yield refresh tokens with another session, generation or MAC."""
    yield from other_spellings(token, chance)
    prefix, data = token[:4], unb64(token[4:])
    for bent in (bytes(len(data)), data[:-1], data + b"\0", data[:20] + bytes(32), data[:20], b"", data[::-1]):
        yield prefix + b64(bent)
    for place in range(0, len(data)):
        yield prefix + b64(data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :])
    for other in ("", "ktr-", "KTR_", "ktr__", "ktr", "ghp_", "ktr_ktr_"):
        yield other + token[4:]


def nonsense() -> Sequence[str]:
    return ("", ".", "..", "...", "a.b.c", "e30.e30.e30", "null", "{}", "Bearer x.y.z", "ktr_", "0", "0" * 6144)
