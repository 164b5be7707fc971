"""Third-party clients discover, refresh, revoke, introspect and verify, knowing only the standards."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import KeySet

from tests.harness import npm
from tests.harness.databases import PATIENT_SECONDS
from tests.harness.import_files import ANY_HASH
from tests.harness.issuers import Issuer, add_client, command, issuing, python
from tests.harness.people import PASSWORD
from tests.harness.servers import REPOSITORY, clean_environment, missing

OAUTH4WEBAPI = """
import * as oauth from "oauth4webapi";

const issuer = new URL(process.env.ISSUER);
const insecure = { [oauth.allowInsecureRequests]: true };
const as = await oauth.processDiscoveryResponse(issuer,
  await oauth.discoveryRequest(issuer, { algorithm: "oauth2", ...insecure }));

const publicClient = { client_id: "keyturn" };
const refreshed = await oauth.processRefreshTokenResponse(as, publicClient,
  await oauth.refreshTokenGrantRequest(as, publicClient, oauth.None(), process.env.REFRESH_TOKEN, insecure));

const service = { client_id: "billing" };
const answers = [];
for (const how of [oauth.ClientSecretBasic, oauth.ClientSecretPost]) {
  const own = await oauth.processClientCredentialsResponse(as, service,
    await oauth.clientCredentialsGrantRequest(as, service, how(process.env.SECRET), { scope: "read" }, insecure));
  const introspect = async (token) => oauth.processIntrospectionResponse(as, service,
    await oauth.introspectionRequest(as, service, how(process.env.SECRET), token, insecure));
  answers.push([own.scope, (await introspect(own.access_token)).client_id,
    (await introspect(refreshed.access_token)).username, (await introspect("nonsense")).active]);
}
await oauth.processRevocationResponse(
  await oauth.revocationRequest(as, publicClient, oauth.None(), refreshed.refresh_token, insecure));
let refused;
try {
  await oauth.processRefreshTokenResponse(as, publicClient,
    await oauth.refreshTokenGrantRequest(as, publicClient, oauth.None(), refreshed.refresh_token, insecure));
} catch (error) { refused = error.error; }
console.log(JSON.stringify([answers, refused]));
"""

OPENID_CLIENT = """
import * as client from "openid-client";

const options = { algorithm: "oauth2", execute: [client.allowInsecureRequests] };
const publicClient = await client.discovery(
    new URL(process.env.ISSUER), "keyturn", undefined, client.None(), options);
const refreshed = await client.refreshTokenGrant(publicClient, process.env.REFRESH_TOKEN);
const service = await client.discovery(
  new URL(process.env.ISSUER), "billing", process.env.SECRET, undefined, options);
const before = await client.tokenIntrospection(service, refreshed.access_token);
await client.tokenRevocation(publicClient, refreshed.access_token);
const after = await client.tokenIntrospection(service, refreshed.access_token);
console.log(JSON.stringify([before.username, before.acr, after]));
"""

OPENID_CLIENT_WITHOUT_OPTIONS = """
import * as client from "openid-client";

const publicClient = await client.discovery(new URL(process.env.ISSUER), "keyturn", undefined, client.None(),
  { execute: [client.allowInsecureRequests] });
const refreshed = await client.refreshTokenGrant(publicClient, process.env.REFRESH_TOKEN);
console.log(JSON.stringify([publicClient.serverMetadata().issuer, refreshed.token_type]));
"""

SIMPLE_OAUTH2 = """
import { AuthorizationCode } from "simple-oauth2";

let refreshToken = process.env.REFRESH_TOKEN;
const types = [];
for (const authorizationMethod of ["header", "body"]) {
  const client = new AuthorizationCode({
    client: { id: "keyturn", secret: "" },
    auth: { tokenHost: process.env.ISSUER, tokenPath: "/token", revokePath: "/revoke" },
    options: { authorizationMethod },
    http: { json: true },  // the answer to /revoke has no body
  });
  const refreshed = await client.createToken({ refresh_token: refreshToken }).refresh();
  types.push(refreshed.token.token_type);
  refreshToken = refreshed.token.refresh_token;
  if (authorizationMethod === "body") await refreshed.revoke("refresh_token");
}
console.log(JSON.stringify(types));
"""

EXPRESS = """
import { auth } from "express-oauth2-jwt-bearer";

const check = auth({ issuerBaseURL: process.env.URL, audience: process.env.URL, strict: true,
  tokenSigningAlg: "ES256" });
const answers = [];
for (const token of [process.env.ACCESS_TOKEN, process.env.MFA_TOKEN]) {
  const headers = { host: "localhost", authorization: `Bearer ${token}` };
  const request = { headers, method: "GET", protocol: "http", url: "/", get: () => "localhost",
    is: () => false, query: {} };
  await new Promise((resolve) => check(request, {}, (error) => {
    answers.push(error ? error.status : request.auth.payload.username);
    resolve();
  }));
}
console.log(JSON.stringify(answers));
"""

GENERATED = """
import os
from generated import AuthenticatedClient, Client
from generated.api.people import enrolment_secret, login, qrcode, signup
from generated.models import SecretAnswer, SignupBody

url = os.environ["ISSUER"]
body = SignupBody(username="generated", password=os.environ["PASSWORD"], enable_mfa=True)
signed_up = signup.sync(client=Client(base_url=url), body=body)
client = AuthenticatedClient(base_url=url, token=signed_up.mfa_token)
shown = enrolment_secret.sync("generated", client=client)
assert isinstance(shown, SecretAnswer), shown
assert shown.provisioning_uri == signed_up.provisioning_uri
picture = qrcode.sync_detailed("generated", client=client)
assert picture.parsed is None
print(picture.status_code.value, picture.headers["content-type"], picture.content[:4])
"""

TYPED = """
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

declare const process: { env: Record<string, string> };
const { ISSUER: baseUrl, ACCESS_TOKEN, PASSWORD, SUB } = process.env;
const keyturn = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${ACCESS_TOKEN}` } });
const answers: unknown[] = [];

const made = await keyturn.POST("/admin/users", { body: { username: "typed", password: PASSWORD, roles: ["a"] } });
const user: components["schemas"]["UserDetailsAnswer"] | null | undefined = made.data?.user;
if (!user) throw new Error(JSON.stringify(made.error));
const path = { sub: user.sub };
const change = { claims: { tenant: "acme" }, locale: "fr" };
const changed = await keyturn.PATCH("/admin/users/{sub}", { params: { path }, body: change });
answers.push([made.response.status, user.roles, changed.data?.claims["tenant"], changed.data?.locale]);

const refused = await keyturn.PATCH("/admin/users/{sub}", { params: { path }, body: { claims: { email: "x" } } });
answers.push([refused.response.status, refused.error?.code, refused.error?.errors?.[0]?.field]);

const names: string[] = [];
let cursor: string | undefined;
do {
  const page = await keyturn.GET("/admin/users", { params: { query: { limit: 1, ...(cursor ? { cursor } : {}) } } });
  names.push(...(page.data?.users ?? []).map((found) => found.username));
  cursor = page.data?.next_cursor ?? undefined;
} while (cursor);
answers.push(names);

const imported = await keyturn.GET("/admin/users/{sub}", { params: { path: { sub: SUB } } });
answers.push(imported.data?.username);
const ended = await keyturn.DELETE("/admin/users/{sub}/sessions", { params: { path: { sub: SUB } } });
const invited = await keyturn.POST("/admin/invitations", { body: { roles: ["b"], expires_in: 3600 } });
const events = await keyturn.GET("/admin/events", { params: { query: { after: 0, limit: 200 } } });
const last = events.data?.events.at(-1)?.event;
answers.push([ended.response.status, invited.data?.link?.includes("#invitation="), last]);
const removed = await keyturn.DELETE("/admin/users/{sub}", { params: { path } });
const gone = await keyturn.GET("/admin/users/{sub}", { params: { path } });
answers.push([removed.response.status, gone.response.status, gone.error?.code]);
console.log(JSON.stringify(answers));
"""

ADMINISTRATION = """
import os
from generated import AuthenticatedClient
from generated.api.administration import (admin_change_user, admin_delete_user, admin_list_users, admin_read_events,
    admin_show_user)
from generated.models import ChangesBody, ChangesBodyClaimsType0, Problem, UserDetailsAnswer

client = AuthenticatedClient(base_url=os.environ["ISSUER"], token=os.environ["ACCESS_TOKEN"])
sub = os.environ["SUB"]
shown = admin_show_user.sync(sub, client=client)
assert isinstance(shown, UserDetailsAnswer), shown
claims = ChangesBodyClaimsType0.from_dict({"tenant": "acme", "n": 1})
changed = admin_change_user.sync(sub, client=client, body=ChangesBody(roles=["a"], claims=claims,
    locale="fr"))
assert isinstance(changed, UserDetailsAnswer) and changed.locale == "fr", changed
found = admin_list_users.sync(client=client, role="a", limit=200)
refused = admin_show_user.sync("nobody", client=client)
assert isinstance(refused, Problem), refused
removed = admin_delete_user.sync_detailed(sub, client=client)
last = admin_read_events.sync(client=client).events[-1]
print(shown.username, changed.claims.to_dict(), [user.sub for user in found.users], refused.code,
    removed.status_code.value, last.event, last.details.to_dict())
"""

JOSE = """
import { createRemoteJWKSet, jwtVerify } from "jose";

const keys = createRemoteJWKSet(new URL(process.env.ISSUER + "/.well-known/jwks.json"));
const { payload } = await jwtVerify(process.env.ACCESS_TOKEN, keys, {
  issuer: process.env.ISSUER, audience: process.env.ISSUER, typ: "at+jwt", algorithms: ["ES256", "EdDSA", "RS256"],
});
console.log(payload.username);
"""


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuer]:
    with issuing(tmp_path_factory.mktemp("issuer") / "data") as issuer:
        yield issuer


def test_oauth4webapi_discovers_refreshes_introspects_and_revokes(issuer: Issuer, tmp_path: Path) -> None:
    """It uses both ways of client authentication, and acts as a public client for sessions of users."""
    npm.install(tmp_path, "oauth4webapi@3")
    environment = issuer.environment(REFRESH_TOKEN=issuer.log_in()["refresh_token"])
    answers, refused = json.loads(npm.run(tmp_path, OAUTH4WEBAPI, environment))
    assert [["read", "billing", "bob", False]] * 2 == answers
    assert "invalid_grant" == refused


def test_openid_client_introspects_and_revokes(issuer: Issuer, tmp_path: Path) -> None:
    """The certified client library of the same author needs the metadata only."""
    npm.install(tmp_path, "openid-client@6")
    environment = issuer.environment(REFRESH_TOKEN=issuer.log_in()["refresh_token"])
    assert ["bob", "aal1", {"active": False}] == json.loads(npm.run(tmp_path, OPENID_CLIENT, environment))


def test_openid_client_discovers_without_an_option(issuer: Issuer, tmp_path: Path) -> None:
    """It requests openid-configuration first: that is the same document, with the issuer that it compares."""
    npm.install(tmp_path, "openid-client@6")
    environment = issuer.environment(REFRESH_TOKEN=issuer.log_in()["refresh_token"])
    answer = json.loads(npm.run(tmp_path, OPENID_CLIENT_WITHOUT_OPTIONS, environment))
    assert [issuer.url, "bearer"] == answer


def test_simple_oauth2_refreshes_and_revokes_as_a_public_client(issuer: Issuer, tmp_path: Path) -> None:
    """It sends its empty secret in Basic authentication, and in the body."""
    npm.install(tmp_path, "simple-oauth2@5")
    environment = issuer.environment(REFRESH_TOKEN=issuer.log_in()["refresh_token"])
    assert ["Bearer", "Bearer"] == json.loads(npm.run(tmp_path, SIMPLE_OAUTH2, environment))


def test_express_finds_the_keys_from_the_issuer_alone(issuer: Issuer, tmp_path: Path) -> None:
    """express-oauth2-jwt-bearer runs in its strict mode with `issuerBaseURL`; it refuses a pending token."""
    npm.install(tmp_path, "express-oauth2-jwt-bearer@1")
    given = {"username": "pending", "password": PASSWORD, "enable_mfa": True}
    pending = httpx2.post(f"{issuer.url}/signup", json=given, timeout=PATIENT_SECONDS).json()["mfa_token"]
    tokens = {"ACCESS_TOKEN": issuer.log_in()["access_token"], "MFA_TOKEN": pending}
    environment = {
        **clean_environment(),
        **tokens,
        "URL": issuer.url,
    }  # the library reads ISSUER and SECRET by itself
    assert ["bob", 401] == json.loads(npm.run(tmp_path, EXPRESS, environment))


def test_authlib_discovers_by_openid_configuration(issuer: Issuer) -> None:
    """Its Flask and Starlette clients take `server_metadata_url`, which is openid-configuration in every guide."""
    answer = AuthorizationServerMetadata(
        httpx2.get(f"{issuer.url}/.well-known/openid-configuration", timeout=PATIENT_SECONDS).json()
    )
    assert (issuer.url, f"{issuer.url}/token") == (answer.issuer, answer.token_endpoint)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of Python with a client that openapi-python-client generated from the document."""
    folder = tmp_path_factory.mktemp("generated")
    tools = folder / "tools"
    installed = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(tools),
         "openapi-python-client==0.29.0"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if installed.returncode != 0:
        missing("PyPI's openapi-python-client (its registry did not answer)")
    generate = ["openapi_python_client", "generate", "--path", str(REPOSITORY / "openapi.json"), "--meta", "none"]
    path = f"{tools}:{folder}"
    python({"PYTHONPATH": path}, "-m", *generate, "--output-path", str(folder / "generated"))
    return path


def test_a_python_client_generated_from_the_document_works(issuer: Issuer, generated: str) -> None:
    """openapi-python-client sends no Accept and reads JSON only: /qrcode is an image, its secret has its own path."""
    environment = issuer.environment(PYTHONPATH=generated, PASSWORD=PASSWORD)
    assert "200 image/png b'\\x89PNG'" == python(environment, "-c", GENERATED)


@pytest.fixture
def administered(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a client of the admin API, with the `sub` of an imported user, which has a slash."""
    with issuing(tmp_path / "data", KEYTURN_ADMIN_API="on", KEYTURN_MESSAGES="off") as issuer:
        scopes = [f"keyturn:{name}" for name in ("users.read", "users.write", "events.read")]
        secret = add_client(issuer.settings, "desk", *scopes)
        sub = "auth0|a/sessions?x#%2F"
        record = {"username": "imported", "password_hash": ANY_HASH, "sub": sub}
        command(issuer.settings, "users", "import", "-", given=json.dumps(record))
        form = {"grant_type": "client_credentials"}
        answer = httpx2.post(f"{issuer.url}/token", data=form, auth=("desk", secret), timeout=PATIENT_SECONDS)
        token = answer.json()["access_token"]
        yield issuer.environment(ACCESS_TOKEN=token, SUB=sub, PASSWORD=PASSWORD)


def test_a_typescript_client_generated_from_the_document_administers(
    administered: dict[str, str], tmp_path: Path
) -> None:
    """openapi-typescript makes types, which `tsc --strict` checks; openapi-fetch sends the requests."""
    npm.install(tmp_path, "openapi-typescript@7", "openapi-fetch@0.17", "typescript@5")
    npm.execute(tmp_path, "openapi-typescript", str(REPOSITORY / "openapi.json"), "--output", "api.d.ts")
    assert [
        [201, ["a"], "acme", "fr"],
        [422, "invalid_request", "claims"],
        ["bob", "imported", "typed"],
        "imported",
        [204, True, "invitation.created"],
        [204, 404, "not_found"],
    ] == json.loads(npm.run_typescript(tmp_path, TYPED, administered))


def test_a_generated_python_client_administers(administered: dict[str, str], generated: str) -> None:
    """openapi-python-client encodes the slash of the `sub`, and has a type for each answer."""
    sub = administered["SUB"]
    claims, details = {"n": 1, "tenant": "acme"}, {"by": "client:desk"}
    expected = f"imported {claims} {[sub]} not_found 204 user.deleted {details}"
    assert expected == python({**administered, "PYTHONPATH": generated}, "-c", ADMINISTRATION)


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated via RFC 9864")  # joserfc has another name for Ed25519
@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA", "RS256"])
def test_other_libraries_verify_access_tokens(tmp_path: Path, algorithm: str) -> None:
    """npm's jose, PyJWT's PyJWKClient and joserfc use the published key set."""
    with issuing(tmp_path / "data", KEYTURN_SIGNING_ALGORITHM=algorithm) as issuer:
        token = issuer.log_in()["access_token"]
        jwks = f"{issuer.url}/.well-known/jwks.json"
        key = jwt.PyJWKClient(jwks).get_signing_key_from_jwt(token)
        claims = jwt.decode(token, key, algorithms=[algorithm], issuer=issuer.url, audience=issuer.url)
        assert "bob" == claims["username"]
        known = KeySet.import_key_set(httpx2.get(jwks, timeout=PATIENT_SECONDS).json())
        assert "bob" == joserfc_jwt.decode(token, known, algorithms=[algorithm]).claims["username"]
        npm.install(tmp_path, "jose@6")
        assert "bob" == npm.run(tmp_path, JOSE, issuer.environment(ACCESS_TOKEN=token))


def test_authlib_refreshes_by_itself(issuer: Issuer) -> None:
    """Its session notices that the access token has expired, refreshes, stores the new tokens, and continues."""
    token = issuer.log_in()
    updates: list[dict[str, Any]] = []
    session = OAuth2Session(
        "keyturn",
        token_endpoint=f"{issuer.url}/token",
        token_endpoint_auth_method="none",
        token={**token, "expires_at": int(time.time()) - 1},
        update_token=lambda new, **_old: updates.append(new),
    )
    assert "bob" == session.get(f"{issuer.url}/me").json()["username"]
    assert 1 == len(updates)
    assert updates[0]["refresh_token"] != token["refresh_token"]
    assert "bob" == session.get(f"{issuer.url}/me").json()["username"]
    assert 1 == len(updates), "the new token is valid for ten minutes"


def test_authlib_gets_a_clients_own_token(issuer: Issuer) -> None:
    """It gets the token by client_credentials with Basic authentication, and introspects it."""
    session = OAuth2Session("billing", issuer.secret, scope="write")
    token = session.fetch_token(f"{issuer.url}/token", grant_type="client_credentials")
    assert "write" == token["scope"]
    answer = session.introspect_token(f"{issuer.url}/introspect", token=token["access_token"])
    assert (True, "billing") == (answer.json()["active"], answer.json()["client_id"])
