"""The tutorials and guides are true: what they show runs as it stands, and what they name exists."""

import contextlib
import importlib.util
import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
import yaml

from service.cli import main
from tests import npm
from tests.documents import LOGGED_IN, SECOND_TERMINAL, Block, Reader, blocks, pages, reader
from tests.servers import REPOSITORY, missing

DOCS = REPOSITORY / "docs"
GUIDES = DOCS / "guides"
TUTORIALS = DOCS / "tutorials"
OF_OTHER_TESTS = {
    "back-up-and-restore.md": "test_deploy_backup.py runs its commands on both databases",
}


def settings_of(block: Block) -> str:
    """What a block's title says that Keyturn must be started with; nothing for other titles."""
    return block.title if block.title.startswith("KEYTURN_") else ""


def follow(page: Path, someone: Reader, settings: str = "") -> None:
    """Do what a tutorial or guide says, from its beginning to its end; only what belongs to these settings."""
    for block in blocks(page, "sh", "python"):
        if block.title == SECOND_TERMINAL:
            someone.open_terminal(block.text)
        elif block.title.endswith(".py"):
            someone.save(block)
        elif block.language == "sh" and settings_of(block) == settings:
            someone.type(block.text)


@pytest.mark.parametrize("page", sorted(TUTORIALS.glob("*.md")), ids=lambda page: page.stem)
def test_a_tutorial_can_be_followed(page: Path, tmp_path: Path) -> None:
    """By a newcomer who types everything as it stands; only the ports are the test's."""
    with reader(tmp_path / "copy") as someone:
        follow(page, someone)


GUIDES_WITH_COMMANDS = [page for page in sorted(GUIDES.glob("*.md")) if blocks(page, "sh") and page.name not in OF_OTHER_TESTS]


@pytest.mark.parametrize("page", GUIDES_WITH_COMMANDS, ids=lambda page: page.stem)
def test_a_guide_can_be_followed(page: Path, tmp_path: Path) -> None:
    """By someone who did the first tutorial; blocks that need settings run beside a Keyturn that has them."""
    for number, title in enumerate(sorted({settings_of(block) for block in blocks(page, "sh")})):
        settings = dict(part.split("=", 1) for part in title.split())
        with reader(tmp_path / str(number), **settings) as someone:
            if settings.get("KEYTURN_SIGNUP") != "closed":
                someone.type(LOGGED_IN)
            if "KEYTURN_REQUIRE_MFA" in settings:
                someone.type("echo 'correct horse battery staple' | keyturn users add bob")
            follow(page, someone, title)


def test_the_programs_that_verify_a_token(tmp_path: Path) -> None:
    """PyJWT's and jose's, with a token of a two-factor login."""
    page = GUIDES / "verify-tokens.md"
    with reader(tmp_path / "copy") as someone:
        someone.type(LOGGED_IN)
        (example,) = blocks(page, "python")
        assert "alice aal2 ['pwd', 'otp', 'mfa']" == someone.run_python(example.text)
        npm.install(someone.folder, "jose@6")
        (example,) = blocks(page, "js")
        environment = someone.environment | {"ACCESS_TOKEN": someone.variable("ACCESS_TOKEN")}
        assert "alice aal2 [ 'pwd', 'otp', 'mfa' ]" == npm.run(someone.folder, someone.here(example.text), environment)


def test_the_tests_of_a_relying_service(tmp_path: Path) -> None:
    """The guide's test file holds the tutorial's service to what it promises."""
    parts = blocks(TUTORIALS / "protect-a-fastapi-service.md", "python")
    (tmp_path / "shop.py").write_text("".join(block.text for block in parts if block.title == "shop.py"))
    (test,) = blocks(GUIDES / "test-your-service.md", "python")
    (tmp_path / test.title).write_text(test.text)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", test.title], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "2 passed" in run.stdout, run.stdout + run.stderr


def test_users_of_other_systems_log_in_after_the_import(tmp_path: Path) -> None:
    """Each example line is imported, and its user's password is the right one."""
    lines = [block.text for block in blocks(GUIDES / "import-users.md", "json")]
    assert 6 == len(lines)
    with reader(tmp_path / "copy") as someone:
        (someone.folder / "people.jsonl").write_text("".join(lines))
        someone.type("keyturn users import people.jsonl")
        for line in map(json.loads, lines):
            password = "user1password" if "fbscrypt" in line["password_hash"] else "correct horse battery staple"
            url = f"http://localhost:{someone.ports[8000]}/login"
            answer = httpx2.post(url, json={"username": line["username"], "password": password}, timeout=10)
            assert 200 == answer.status_code, (line["username"], answer.text)


def test_the_program_that_reads_an_export_of_keycloak(tmp_path: Path) -> None:
    """Argon2 and PBKDF2 become lines that are accepted; what it cannot convert it names."""
    salt, derived = "MDEyMzQ1Njc4OWFiY2RlZg==", "DGzF4+RpmttWHV7FCaK41NYsG4Rc9QqDO8q71k0T1OA="
    argon2 = {
        "hashIterations": 5, "algorithm": "argon2",
        "additionalParameters": {"memory": ["7168"], "type": ["id"], "version": ["1.3"], "parallelism": ["1"]},
    }  # fmt: skip
    value = "iFYFbd6+YgSpBS95zKSeCiqMI6RfgwXfibpMk5AbxQY="
    otp = {"subType": "totp", "digits": 6, "period": 30, "algorithm": "HmacSHA1"}
    users = [
        keycloak_user("ann", ("password", argon2, {"value": value, "salt": salt}), ("otp", otp, {"value": "a" * 20})),
        keycloak_user("ben", ("password", {"hashIterations": 27500, "algorithm": "pbkdf2-sha256"},
                              {"value": derived, "salt": salt})),
        keycloak_user("cid", ("password", {"hashIterations": 1, "algorithm": "pbkdf2-sha512"},
                              {"value": "", "salt": ""})),
    ]  # fmt: skip
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "myrealm-realm.json").write_text(json.dumps({"users": users}))
    (program,) = (block for block in blocks(GUIDES / "import-users.md", "python") if block.title == "keycloak.py")
    (tmp_path / program.title).write_text(program.text)
    run = subprocess.run([sys.executable, program.title], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "left out: cid" == run.stderr.strip()
    with reader(tmp_path / "copy") as someone:
        (someone.folder / "people.jsonl").write_text(run.stdout)
        someone.type("keyturn users import people.jsonl")
        for name, field in (("ann", "mfa_token"), ("ben", "access_token")):
            body = {"username": name, "password": "correct horse battery staple"}
            answer = httpx2.post(f"http://localhost:{someone.ports[8000]}/login", json=body, timeout=10)
            assert field in answer.json(), answer.text


def keycloak_user(name: str, *credentials: tuple[str, dict[str, object], dict[str, str]]) -> dict[str, object]:
    """A user as Keycloak exports one."""
    return {
        "id": f"8b1f1c5e-6d1a-4c55-9d6e-{name}", "username": name, "enabled": True,
        "credentials": [
            {"type": kind, "credentialData": json.dumps(data), "secretData": json.dumps(secret)}
            for kind, data, secret in credentials
        ],
    }  # fmt: skip


def console_commands() -> list[tuple[str, str]]:
    """Every command of the examples that are not run, with its page."""
    found = []
    for page in pages():
        for block in blocks(page, "console"):
            text = block.text.replace("\\\n", " ")
            found += [(page.name, line.removeprefix("$ ")) for line in text.splitlines() if line.startswith("$ ")]
    return found


@pytest.mark.parametrize(("page", "command"), console_commands())
def test_a_command_that_is_not_run_names_what_exists(page: str, command: str) -> None:
    """Make targets, files of the repository, services of compose.yaml, and the arguments of `keyturn` itself."""
    del page
    targets = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text("utf-8"), re.MULTILINE)
    for target in re.findall(r"\bmake ([a-z-]+)", command):
        assert target in targets
    for name in re.findall(r"\b(?:deploy/(?!keyturn\b)|examples/)[\w./-]+", command):
        assert (REPOSITORY / name).exists(), name
    services = yaml.safe_load((REPOSITORY / "compose.yaml").read_text("utf-8"))["services"]
    for name in re.findall(r"docker compose (?:stop|(?:exec|run)(?: -T| --rm)*) (\w+)", command):
        assert name in services
    for arguments in re.findall(r"(?:^|\s|/)keyturn ((?:users|clients|keys|doctor|migrate|serve|attack)\b[^|>;&#)]*)", command):
        with contextlib.redirect_stdout(io.StringIO()), pytest.raises(SystemExit) as ended:
            main([*shlex.split(arguments), "--help"])
        assert 0 == ended.value.code


@pytest.mark.parametrize("language", ["yaml", "json"])
def test_configurations_can_be_read(language: str) -> None:
    """As YAML (which JSON is, too)."""
    for page in pages():
        for block in blocks(page, language):
            assert list(yaml.safe_load_all(block.text)), page


def test_every_make_target_that_is_named_exists() -> None:
    """In the README, the documentation and the files about contributing."""
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for page in [*REPOSITORY.glob("*.md"), *DOCS.glob("**/*.md")]:
        for target in re.findall(r"[`$] ?make ([a-z-]+)", page.read_text("utf-8")):
            assert target in targets, (page.name, target)


def test_every_page_is_in_the_navigation() -> None:
    """And every page of the navigation exists."""
    text = (REPOSITORY / "mkdocs.yml").read_text("utf-8")
    listed = re.findall(r"([\w/.-]+\.md)$", text[text.index("\nnav:"):], re.MULTILINE)
    assert sorted(str(page.relative_to(DOCS)) for page in DOCS.glob("**/*.md")) == sorted(listed)


def test_the_site_needs_no_other_host(tmp_path: Path) -> None:
    """The strict build succeeds, and no page loads a script, a style, a font or a picture from elsewhere."""
    if importlib.util.find_spec("mkdocs") is None:
        missing("mkdocs (make docs installs it)")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert 0 == run.returncode, run.stdout + run.stderr
    for page in (tmp_path / "site").glob("**/*.html"):
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*\bsrc=\"?([^\"\s>]+)", page.read_text("utf-8"))
        loaded += re.findall(r"<link[^>]*\bhref=\"?([^\"\s>]+)", page.read_text("utf-8"))
        assert not [address for address in loaded if re.match(r"(?:https?:)?//", address)], page
