"""The tutorials and guides can be followed: their examples run unchanged, except for the ports."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.harness import npm
from tests.harness.documents import FUNCTIONS, LOGGED_IN, SECOND_TERMINAL, Block, Reader, blocks, reader
from tests.harness.people import PASSWORD
from tests.harness.servers import REPOSITORY, keyturn, missing

GUIDES = REPOSITORY / "docs" / "guides"
TUTORIALS = REPOSITORY / "docs" / "tutorials"
OF_OTHER_TESTS = {"back-up-and-restore", "attack-your-deployment"}
"""Examples that test_deploy_backup.py runs on both databases, and test_attack.py against a whole deployment."""
WITH_COMMANDS = [
    page for page in sorted(GUIDES.glob("*.md")) if blocks(page, "sh") and page.stem not in OF_OTHER_TESTS
]


@pytest.fixture(scope="module")
def someone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A logged-in reader, for programs that do not change alice's account."""
    with reader(tmp_path_factory.mktemp("programs") / "copy") as reading:
        reading.type(LOGGED_IN)
        yield reading


def settings_of(block: Block) -> str:
    """Return the settings that a block's title requires of Keyturn, or an empty string for other titles."""
    return block.title if block.title.startswith("KEYTURN_") else ""


def follow(page: Path, someone: Reader, settings: str = "") -> None:
    """Follow a tutorial or guide from beginning to end, but only its functions and the blocks for these settings."""
    for block in blocks(page, "sh", "python"):
        if block.title == SECOND_TERMINAL:
            someone.open_terminal(block.text)
        elif block.title.endswith(".py"):
            someone.save(block)
        elif block.language == "sh" and (block.title == FUNCTIONS or settings_of(block) == settings):
            someone.type(block.text)


@pytest.mark.parametrize("page", sorted(TUTORIALS.glob("*.md")), ids=lambda page: page.stem)
def test_a_tutorial_can_be_followed(page: Path, tmp_path: Path) -> None:
    """A newcomer can type everything as it is written, except for the ports."""
    with reader(tmp_path / "copy") as someone:
        follow(page, someone)


def test_the_service_says_what_the_tutorials_wait_for(tmp_path: Path) -> None:
    """Each sentence for which a newcomer waits is in the log in the form of `make run`."""
    text = "".join(page.read_text("utf-8") for page in TUTORIALS.glob("*.md"))
    sentences = re.findall(r"(?i)wait until it says\s`([^`]+)`", text)
    assert len(sentences) == text.count("$ make run")
    log = tmp_path / "log"
    with keyturn({"KEYTURN_DATA_DIR": str(tmp_path), "KEYTURN_LOG_FORMAT": "console"}, log=log):
        assert all(sentence in log.read_text("utf-8") for sentence in sentences)


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.stem)
def test_a_guide_can_be_followed(page: Path, tmp_path: Path) -> None:
    """The reader has followed the first tutorial; blocks that need settings run with a Keyturn that has them."""
    for number, title in enumerate(sorted({settings_of(block) for block in blocks(page, "sh")})):
        settings = dict(part.split("=", 1) for part in title.split())
        with reader(tmp_path / str(number), **settings) as someone:
            if "KEYTURN_SIGNUP" not in settings:
                someone.type(LOGGED_IN)
            if "KEYTURN_REQUIRE_MFA" in settings:
                someone.type("echo 'correct horse battery staple' | keyturn users add bob")
            follow(page, someone, title)


def test_the_pyjwt_example_verifies_that_token(someone: Reader) -> None:
    """The eight lines of PyJWT accept a token of a two-factor login."""
    (example,) = blocks(GUIDES / "verify-tokens.md", "python")
    assert "alice aal2 ['pwd', 'otp', 'mfa']" == someone.run_python(example.text)


def test_the_jose_example_verifies_that_token(someone: Reader) -> None:
    """npm's jose, installed from its registry, accepts the same token."""
    npm.install(someone.folder, "jose@6")
    (example,) = blocks(GUIDES / "verify-tokens.md", "js")
    environment = someone.environment | {"ACCESS_TOKEN": someone.variable("ACCESS_TOKEN")}
    assert "alice aal2 [ 'pwd', 'otp', 'mfa' ]" == npm.run(someone.folder, someone.here(example.text), environment)


def test_the_tests_of_a_relying_service(tmp_path: Path) -> None:
    """The guide's test file passes for the tutorial's service."""
    parts = blocks(TUTORIALS / "protect-a-fastapi-service.md", "python")
    (tmp_path / "shop.py").write_text("".join(block.text for block in parts if block.title == "shop.py"))
    (test,) = blocks(GUIDES / "test-your-service.md", "python")
    (tmp_path / test.title).write_text(test.text)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", test.title], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "2 passed" in run.stdout, run.stdout + run.stderr


def log_in(someone: Reader, name: str, password: str = PASSWORD) -> dict[str, object]:
    """Return the answer to a user's correct password."""
    url = f"http://localhost:{someone.ports[8000]}/login"
    answer = httpx2.post(url, json={"username": name, "password": password}, timeout=10)
    assert 200 == answer.status_code, (name, answer.text)
    said: dict[str, object] = answer.json()
    return said


def test_users_of_other_systems_log_in_after_the_import(someone: Reader) -> None:
    """Each example line is imported, and its user can log in with the password."""
    lines = [block.text for block in blocks(GUIDES / "import-users.md", "json")]
    assert 6 == len(lines)
    (someone.folder / "people.jsonl").write_text("".join(lines))
    someone.type("keyturn users import people.jsonl")
    for line in map(json.loads, lines):
        is_firebase = "fbscrypt" in line["password_hash"]
        log_in(someone, line["username"], *(["user1password"] if is_firebase else []))


def test_the_commands_that_read_exports_of_auth0_and_firebase(tmp_path: Path) -> None:
    """They write the lines that the guide shows."""
    if shutil.which("jq") is None:
        missing("jq")
    page = GUIDES / "import-users.md"
    lines = {line["username"]: line for line in (json.loads(block.text) for block in blocks(page, "json"))}
    firebase, auth0 = lines["firebase@example.com"], lines["auth0@example.com"]
    _, _, parameters, salt, derived = firebase["password_hash"].split("$")
    _, signer_key = parameters.split(",sk=")
    exported = {
        "email": firebase["username"], "localId": firebase["sub"], "salt": salt, "passwordHash": derived,
        "emailVerified": True,
    }  # fmt: skip
    (tmp_path / "users.json").write_text(json.dumps({"users": [exported, {"email": "by-telephone@example.com"}]}))
    exported = {"email": auth0["username"], "email_verified": True, "passwordHash": auth0["password_hash"]}
    (tmp_path / "auth0.json").write_text(
        json.dumps({"_id": {"$oid": auth0["sub"].removeprefix("auth0|")}, **exported})
    )
    commands = [block.text.removeprefix("$ ") for block in blocks(page, "console") if block.text.startswith("$ jq")]
    environment = os.environ | {"SIGNER_KEY": signer_key, "SALT_SEPARATOR": "Bw=="}
    for command, expected in zip(commands, (auth0, firebase), strict=True):
        subprocess.run(["bash", "-euc", command], cwd=tmp_path, env=environment, check=True)
        assert expected == json.loads((tmp_path / "people.jsonl").read_text())


def test_the_program_that_reads_an_export_of_keycloak(someone: Reader, tmp_path: Path) -> None:
    """Argon2 and PBKDF2 become accepted lines; users that it cannot convert are named."""
    salt, derived = "MDEyMzQ1Njc4OWFiY2RlZg==", "DGzF4+RpmttWHV7FCaK41NYsG4Rc9QqDO8q71k0T1OA="
    argon2 = {
        "hashIterations": 5, "algorithm": "argon2",
        "additionalParameters": {"memory": ["7168"], "type": ["id"], "version": ["1.3"], "parallelism": ["1"]},
    }  # fmt: skip
    value = "iFYFbd6+YgSpBS95zKSeCiqMI6RfgwXfibpMk5AbxQY="
    otp = {"subType": "totp", "digits": 6, "period": 30, "algorithm": "HmacSHA1"}
    password = ("password", argon2, {"value": value, "salt": salt})
    users = [
        keycloak_user("ann", password, ("otp", otp, {"value": "a" * 20})),
        keycloak_user("ben", ("password", {"hashIterations": 27500, "algorithm": "pbkdf2-sha256"},
                              {"value": derived, "salt": salt})),
        keycloak_user("dan", password, ("otp", otp | {"digits": 8}, {"value": "a" * 20})),
        keycloak_user("eve", password, ("otp", otp | {"subType": "hotp"}, {"value": "a" * 20})),
        keycloak_user("fay", password, ("otp", otp | {"algorithm": "HmacSHA256"}, {"value": "a" * 20}),
                      ("otp", otp, {"value": "b" * 20}), ("otp", otp, {"value": "c" * 20})),
        keycloak_user("cid", ("password", {"hashIterations": 1, "algorithm": "pbkdf2-sha512"},
                              {"value": "", "salt": ""})),
    ]  # fmt: skip
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "myrealm-realm.json").write_text(json.dumps({"users": users}))
    (program,) = (block for block in blocks(GUIDES / "import-users.md", "python") if block.title == "keycloak.py")
    (tmp_path / program.title).write_text(program.text)
    run = subprocess.run([sys.executable, program.title], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "left out: cid" == run.stderr.strip()
    (someone.folder / "people.jsonl").write_text(run.stdout)
    someone.type("keyturn users import people.jsonl")
    assert "access_token" in log_in(someone, "ben@example.com")
    states = {name: log_in(someone, name).get("mfa_confirmed") for name in ("ann", "dan", "eve", "fay")}
    assert {"ann": True, "dan": False, "eve": False, "fay": True} == states
    lines = {line["username"]: line for line in map(json.loads, run.stdout.splitlines())}
    names = [one["name"] for one in lines["fay"]["authenticators"]]
    assert ["Authenticator", "Authenticator"] == names


def keycloak_user(name: str, *credentials: tuple[str, dict[str, object], dict[str, str]]) -> dict[str, object]:
    """Return a user as Keycloak exports them."""
    return {
        "id": f"8b1f1c5e-6d1a-4c55-9d6e-{name}", "username": name, "enabled": True,
        "email": f"{name}@example.com", "emailVerified": True,
        "credentials": [
            {"type": kind, "credentialData": json.dumps(data), "secretData": json.dumps(secret)}
            for kind, data, secret in credentials
        ],
    }  # fmt: skip
