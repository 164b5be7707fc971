"""keyturn.js runs in Node against the service, and its types are those of the service.

The tests of its behaviour are in `browser/*.test.mjs`. They need no package from npm. The examples of its use run in
`tests/web/test_browser_examples.py`.
"""

import gzip
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.harness import npm
from tests.harness.ports import free_port
from tests.harness.servers import REPOSITORY, clean_environment, keyturn, missing

CLIENT = REPOSITORY / "clients" / "browser"
MODULE, TYPES = CLIENT / "keyturn.js", CLIENT / "keyturn.d.ts"
STORIES = sorted((Path(__file__).parent / "browser").glob("*.test.mjs"))
MAX_GZIPPED_BYTES = 10 * 1024
ANSWERS = {
    "SignedUp": "SignupAnswer", "LoggedIn": "TokenAnswer", "CodeRequired": "PendingAnswer",
    "StepUpStarted": "StepUpAnswer", "EnrolmentStarted": "EnableAnswer", "EnrolmentSecret": "SecretAnswer",
    "Account": "AccountAnswer", "Session": "SessionAnswer", "AccountEvent": "EventAnswer", "Factor": "FactorAnswer",
}  # fmt: skip
"""The interfaces of keyturn.d.ts, and the schemas of openapi.json that they describe."""
TOKENS = {"access_token", "refresh_token", "mfa_token", "token_type"}
"""What the module keeps to itself."""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The variables that tell a story where Keyturn, its mail and the origin of the application are."""
    if shutil.which("node") is None:
        missing("node")
    data, port = tmp_path_factory.mktemp("browser") / "data", free_port()
    origin, issuer = "http://localhost:5173", f"http://127.0.0.1:{port}"
    settings = {
        "KEYTURN_DATA_DIR": str(data), "KEYTURN_ISSUER": issuer, "KEYTURN_CORS_ORIGINS": origin,
        "KEYTURN_LIMIT_SIGNUP": "off", "KEYTURN_ADMIN_API": "on", "KEYTURN_REMEMBER_DEVICE_DAYS": "30",
    }  # fmt: skip
    with keyturn(settings, port=port):
        yield {**clean_environment(), "ISSUER": issuer, "ORIGIN": origin, "MAIL": str(data / "mail")}


@pytest.mark.parametrize("story", STORIES, ids=lambda path: path.name.partition(".")[0])
def test_in_node(story: Path, environment: dict[str, str]) -> None:
    """Twenty tabs refresh once, a network failure is no logout, and every call works against the service."""
    _run(["node", "--test", str(story)], story.parent, environment)


def test_the_module_is_small_and_alone() -> None:
    """A page loads one file."""
    assert len(gzip.compress(MODULE.read_bytes(), 9)) < MAX_GZIPPED_BYTES
    assert re.search(r"\bimport\b", re.sub(r"/\*\*.*?\*/", "", MODULE.read_text("utf-8"), flags=re.DOTALL)) is None


@pytest.mark.parametrize("interface", ANSWERS)
def test_an_answer_has_the_fields_of_the_service(interface: str) -> None:
    """All but tokens, and no others."""
    found = re.search(rf"interface {interface} {{\n(.*?)\n}}", TYPES.read_text("utf-8"), re.DOTALL)
    assert found is not None
    declared = dict(re.findall(r"^  (\w+)(\??):", found[1], re.MULTILINE))
    schema = _openapi()["components"]["schemas"][ANSWERS[interface]]
    assert set(schema["properties"]) - TOKENS == set(declared)
    assert set(schema["required"]) - TOKENS == {name for name, optional in declared.items() if not optional}


def test_every_path_of_the_module_exists() -> None:
    """Each call is an operation of openapi.json."""
    text = MODULE.read_text("utf-8")
    called = {re.sub(r"\$\{.*", "", path) for path in re.findall(r'[`"](/[a-z][^`"]*)[`"]', text)}
    assert len(called) > 20
    paths = {re.sub(r"\{.*", "", path) for path in _openapi()["paths"]}
    assert called - paths == set()


def test_a_wrong_use_does_not_compile(tmp_path: Path) -> None:
    """The types refuse a missing mode, an unknown field, and an answer that is read without a look at its kind."""
    npm.install(tmp_path, npm.TYPESCRIPT)
    for file in (MODULE, TYPES):
        shutil.copy(file, tmp_path)
    head = 'import { createKeyturn } from "./keyturn.js";\n'
    use = head + 'const keyturn = createKeyturn({ issuer: "https://a.example", session: "cookie" });\n'
    wrong = {
        "mode.ts": head + 'createKeyturn({ issuer: "https://a.example" });',
        "code.ts": use + "await keyturn.giveCode({});",
        "user.ts": use + "console.log(keyturn.user.username);",
        "pending.ts": use + 'console.log((await keyturn.logIn({ username: "a", password: "b" })).methods);',
    }
    for name, text in wrong.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": npm.COMPILER, "include": ["*.ts"]}))
    done = subprocess.run(["npx", "--no-install", "tsc"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert set(wrong) == set(re.findall(r"^(\w+\.ts)\(\d", done.stdout, re.MULTILINE)), done.stdout


def _openapi() -> Any:
    return json.loads((REPOSITORY / "openapi.json").read_text("utf-8"))


def _run(command: list[str], folder: Path, environment: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stdout[-10_000:] + done.stderr
