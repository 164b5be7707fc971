"""The account page over HTTP: its policy, its caching, its texts in every language, and its absence if it is off."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from service.errors import ConfigurationError, ServiceError
from service.messages.events import LISTED_EVENTS, RETENTION
from service.settings import Settings
from service.telemetry.event_names import EventName
from service.web.account_page.branding import read_style
from service.web.account_page.files import STATIC, PageFiles
from service.web.account_page.routes import CHECK_AGAIN, LANGUAGES, POLICY, answer
from service.web.problems import STATUS, WIRE
from tests.harness.clients import Opener
from tests.harness.servers import REPOSITORY

SOURCES = sorted(path for path in STATIC.rglob("*.js") if not path.is_symlink())
LINK = re.compile(r'(?:src|href)="([^"]+)"')


def sentences(language: str) -> dict[str, str]:
    found = json.loads((STATIC / "i18n" / f"{language}.json").read_text("utf-8"))
    return {key: " ".join(text) if isinstance(text, list) else text for key, text in found.items()}


async def test_the_document_and_every_file_have_the_policy(embedded: dict[str, Any], open_client: Opener) -> None:
    """Nothing but this origin, no inline code, no strings as code, no frame, no referrer, no device of the user."""
    async with open_client(embedded) as client:
        document = await client.get("/account/")
        files = [f"/account/{link}" for link in LINK.findall(document.text)]
        assert len(files) > 10
        for path in ["/account/", *files]:
            answer = await client.get(path)
            assert 200 == answer.status_code, path
            headers = answer.headers
            assert POLICY == headers["content-security-policy"]
            assert ("same-origin", "same-origin", "no-referrer") == (
                headers["cross-origin-opener-policy"],
                headers["cross-origin-resource-policy"],
                headers["referrer-policy"],
            )
            assert "camera=()" in headers["permissions-policy"]
            assert "nosniff" == headers["x-content-type-options"]
            assert "set-cookie" not in headers
    policy = dict(part.strip().partition(" ")[::2] for part in POLICY.split(";"))
    assert (
        "'none'" == policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"]
    )
    assert {"'self'"} == {policy[f"{kind}-src"] for kind in ("script", "style", "connect", "img")}
    assert ("'script'", "'none'") == (policy["require-trusted-types-for"], policy["trusted-types"])
    assert not re.search(r"unsafe|https?:|\*|data:|blob:", POLICY)
    assert not re.search(r"<script(?![^>]* src=)|<style|\bon\w+=|\bstyle=", document.text)


async def test_a_browser_loads_each_version_once(embedded: dict[str, Any], open_client: Opener) -> None:
    """The document is checked again at each visit; its files never change under their name. Both have strong tags."""
    async with open_client(embedded) as client:
        document = await client.get("/account/")
        main = next(link for link in LINK.findall(document.text) if link.endswith("/main.js"))
        script = await client.get(f"/account/{main}")
        assert ("no-cache", "public, max-age=31536000, immutable") == (
            document.headers["cache-control"],
            script.headers["cache-control"],
        )
        for path, answer in (("/account/", document), (f"/account/{main}", script)):
            tag = answer.headers["etag"]
            assert re.fullmatch(r'"[0-9a-f]{32}(-gzip)?"', tag)
            for known in (tag, f"W/{tag}", f'"other", {tag}'):
                again = await client.get(path, headers={"If-None-Match": known})
                assert (304, b"", tag) == (again.status_code, again.content, again.headers["etag"])
            assert 200 == (await client.get(path, headers={"If-None-Match": '"other"'})).status_code
            assert (200, b"") == ((head := await client.head(path)).status_code, head.content)
        other = await client.get("/account/0123456789abcdef/main.js")
        assert ("no-cache", script.text) == (other.headers["cache-control"], other.text)


async def test_files_are_compressed_for_browsers_that_take_it(embedded: dict[str, Any], open_client: Opener) -> None:
    """The two forms have different tags. A worker keeps less than 512 KiB for the page."""
    async with open_client(embedded) as client:
        plain = await client.get("/account/", headers={"Accept-Encoding": "gzip;q=0, br"})
        small = await client.get("/account/", headers={"Accept-Encoding": "br, gzip"})
        assert ("content-encoding" in plain.headers, "gzip") == (False, small.headers["content-encoding"])
        assert plain.text == small.text
        assert plain.headers["etag"] != small.headers["etag"]
        assert "Accept-Encoding" in small.headers["vary"]
    contents = [path.read_bytes() for path in STATIC.rglob("*.*")]
    assert sum(len(content) + len(gzip.compress(content)) for content in contents) < 512 * 1024


async def test_no_request_waits_for_the_compression() -> None:
    """The files are compressed when the service starts."""
    compressed: list[bytes] = []

    def compress(content: bytes) -> bytes:
        compressed.append(content)
        return f"compressed {len(compressed)}".encode()

    page = PageFiles(name="Keyturn", config={}, style="", compress=compress)
    files = [*page.files.values(), page.document]
    assert [file.content for file in files] == compressed
    request = Request({"type": "http", "headers": [(b"accept-encoding", b"gzip")]})
    answers = [answer(request, file, cache=CHECK_AGAIN) for file in files]
    assert {"gzip"} == {sent.headers["content-encoding"] for sent in answers}
    assert [f"compressed {number}".encode() for number in range(1, len(files) + 1)] == [sent.body for sent in answers]
    assert len(files) == len(compressed)


async def test_other_names_are_not_found(embedded: dict[str, Any], open_client: Opener) -> None:
    async with open_client(embedded) as client:
        for path in ("/account/x/routes.py", "/account/x/index.html", "/account/x/../files.py", "/account/x/%2e%2e/a",
                     "/account/x/i18n/", "/account/x", "/account/x/views/../main.js/.."):  # fmt: skip
            answer = await client.get(path)
            assert (404, "no-store") == (answer.status_code, answer.headers["cache-control"]), path
        assert 405 == (await client.post("/account/")).status_code


@pytest.mark.parametrize("path", ["/", "/account"])
async def test_the_short_addresses_lead_to_the_page(embedded: dict[str, Any], open_client: Opener, path: str) -> None:
    """The redirect is relative, because a proxy may strip a path, and never leads to another host."""
    async with open_client(embedded) as client:
        answer = await client.get(path)
        assert (307, "account/") == (answer.status_code, answer.headers["location"])
        answer = await client.get(f"{path}?return_to=https%3A%2F%2Fevil.example")
        assert "account/?return_to=https%3A%2F%2Fevil.example" == answer.headers["location"]


async def test_off_leaves_no_route(embedded: dict[str, Any], open_client: Opener) -> None:
    async with open_client(embedded) as client:
        page = (await client.get("/account/")).text
    async with open_client({**embedded, "account_page": "off"}) as client:
        for path in ("/", "/account", "/account/", *(f"/account/{link}" for link in LINK.findall(page))):
            assert 404 == (await client.get(path)).status_code, path
        assert not [route for route in client.app.router.routes if "account" in getattr(route, "path", "")]


async def test_the_name_is_text(embedded: dict[str, Any], open_client: Opener) -> None:
    """The name of the service and its settings cannot end an attribute or an element of the document."""
    name = "</title><script>alert(1)</script>\"'&"
    async with open_client({**embedded, "totp_issuer": name, "cors_origins": ("https://a.example",)}) as client:
        page = (await client.get("/account/")).text
    assert "<script>" not in page
    assert "<title>&lt;/title&gt;&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;&amp;</title>" in page
    config = re.search(r'<meta name="keyturn" content="([^"]*)">', page)
    assert config is not None
    assert "https://a.example" in config[1]


def test_no_source_turns_text_into_markup_or_code() -> None:
    """All elements are made by createElement, and the sources stay small enough to read."""
    sinks = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|new Function|srcdoc|\.style\b"
    )
    for path in SOURCES:
        source = path.read_text("utf-8")
        assert not sinks.findall(source), path.name
        assert len(source.splitlines()) <= 400
        for imported in re.findall(r'from "(\.[^"]+)"', source):
            assert (path.parent / imported).is_file(), (path.name, imported)


def test_the_page_can_be_read_from_right_to_left() -> None:
    """The style sheet has logical properties only, so that the direction of a language is that of the layout."""
    style = (STATIC / "page.css").read_text("utf-8")
    physical = (
        r"(?:margin|padding|border)-(?:left|right)|(?<![\w-])(?:left|right|float)\s*:|text-align:\s*(?:left|right)"
    )
    assert [] == re.findall(physical, style)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_sentence_exists_in_every_language(language: str) -> None:
    """No key is missing, none is left over, and each sentence has the values of the English one."""
    english, found = sentences("en"), sentences(language)
    assert list(english) == list(found)
    for key, text in english.items():
        assert found[key].strip(), key
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", found[key])), key
    if language != "en":
        same = [key for key in english if found[key] == english[key] and len(english[key]) > 12]
        assert [] == same, "not translated"


def test_the_languages_are_those_of_the_messages() -> None:
    folder = REPOSITORY / "service" / "messages" / "templates"
    assert sorted(LANGUAGES) == sorted(path.name for path in folder.iterdir() if path.is_dir())


def test_every_key_in_the_sources_has_a_sentence() -> None:
    english = sentences("en")
    used = set()
    for path in SOURCES:
        source = path.read_text("utf-8")
        used |= set(re.findall(r'\b(?:tx|t|heading|button|closed)\(\s*"([a-z_]+(?:\.[a-z_]+)*)"', source))
        used |= set(re.findall(r'\btitle: "([a-z_]+\.[a-z_.]+)"', source))
    assert len(used) > 120
    assert set() == used - english.keys()


def test_every_refusal_has_a_sentence_that_helps() -> None:
    """Every code of the contract, and each reason why a password is weak, in the words of the page."""
    english = sentences("en")
    codes = {error.code for error in STATUS} | {code for code, _ in WIRE.values()} | {"temporarily_unavailable"}
    codes |= {error.code for error in _all_errors(ServiceError)}
    codes |= _codes_of_the_module()
    assert set() == {f"error.{code}" for code in codes} - english.keys()
    for code in codes:
        assert english[f"error.{code}"].count(".") + english[f"error.{code}"].count(":") >= 1, code
    policy = (REPOSITORY / "service" / "users" / "password_policy.py").read_text("utf-8")
    patterns = re.findall(r"\[/\^(.+?)/, ", (STATIC / "errors.js").read_text("utf-8"))
    reasons = re.findall(r'WeakPassword\("(.+?)"\)', policy)
    assert len(reasons) == 2
    assert all(any(reason.startswith(pattern) for pattern in patterns) for reason in reasons)


def _codes_of_the_module() -> set[str]:
    """Return the codes of errors that keyturn.js makes itself."""
    return {"http_error"} | set(re.findall(r'KeyturnError\("(\w+)"', (STATIC / "keyturn.js").read_text("utf-8")))


def test_every_code_of_the_module_is_documented() -> None:
    """In the types, and in the table of the guide."""
    codes = _codes_of_the_module()
    assert {"network", "login_required", "no_pending_token", "user_changed"} <= codes
    types = (REPOSITORY / "clients" / "browser" / "keyturn.d.ts").read_text("utf-8")
    guide = (REPOSITORY / "docs" / "guides" / "browser-applications.md").read_text("utf-8")
    for code in codes:
        assert f"`{code}`" in types
        assert f"| `{code}` |" in guide


def _all_errors(base: type[ServiceError]) -> set[type[ServiceError]]:
    found = {kind for kind in base.__subclasses__() if "code" in vars(kind)}
    return found.union(*(_all_errors(kind) for kind in base.__subclasses__()))


def test_every_event_of_a_user_has_a_sentence() -> None:
    events = {f"event.{event}" for event in EventName if not event.startswith("client.")}
    assert set() == events - sentences("en").keys()


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_activity_says_how_much_it_shows(language: str) -> None:
    """The days and the number of events are those of `GET /events`."""
    assert [str(RETENTION.days), str(LISTED_EVENTS)] == re.findall(r"\d+", sentences(language)["activity.lead"])


def style_file(folder: Path, text: str) -> Path:
    file = folder / "style.css"
    file.write_text(text, "utf-8")
    return file


async def test_the_operators_style(embedded: dict[str, Any], open_client: Opener, tmp_path: Path) -> None:
    """Variables for all screens and for dark ones come after those of the page. The document loads them."""
    file = style_file(
        tmp_path,
        "/* ours */ :root { --accent: #0a5; --font: 'Inter', sans-serif; --radius: calc(2px + 1rem) }\n"
        "@media (prefers-color-scheme: dark) { :root { --accent: color-mix(in srgb, #0a5 50%, white); } }",
    )
    async with open_client({**embedded, "account_style": file}) as client:
        page = (await client.get("/account/")).text
        links = LINK.findall(page)
        (brand,) = [link for link in links if link.endswith("/brand.css")]
        answer = await client.get(f"/account/{brand}")
    assert links.index(brand) > next(place for place, link in enumerate(links) if link.endswith("page.css"))
    assert (
        ":root { --accent: #0a5; --font: 'Inter', sans-serif; --radius: calc(2px + 1rem); }\n"
        "@media (prefers-color-scheme: dark) { :root { --accent: color-mix(in srgb, #0a5 50%, white); } }\n"
    ) == answer.text


@pytest.mark.parametrize(
    "text",
    [
        "body { display: none }",
        ":root { color: red }",
        ":root { --accent: url(https://evil.example/x) }",
        ":root { --accent: URL('https://evil.example/x') }",
        ":root { --accent: u\\72l(https://evil.example/x) }",
        ":root { --accent: image-set('https://evil.example/x' 1x) }",
        ":root { --accent: src('x') }",
        ":root { --accent: expression(alert(1)) }",
        ":root { --accent: attr(value) }",
        "@import 'https://evil.example/x.css';",
        "@font-face { font-family: x }",
        ":root { --accent: red; } * { --accent: blue }",
        ":root { --accent: red } </style><script>",
        ":root { --accent: red /* }",
        "@media print { :root { --accent: red } }",
        ":root { --accent: 'a;b{c' }",
        ":root { --accent: red" + " " * 16 * 1024 + "}",
    ],
)
async def test_a_style_has_custom_properties_only(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="KEYTURN_ACCOUNT_STYLE"):
        read_style(style_file(tmp_path, text))


@pytest.mark.parametrize(
    "value",
    [
        "calc(1rem",
        "calc((1rem)",
        "calc(1rem))",
        ")1rem(",
        '"Inter',
        "'Inter",
        "'Inter\"",
        "'Inter\nSans'",
        "'a;b'",
        "calc(1rem; --text: red)",
    ],
)
def test_an_open_bracket_or_quotation_mark_is_refused(value: str, tmp_path: Path) -> None:
    """A browser would take the declarations that follow for a part of the value, and ignore them."""
    with pytest.raises(ConfigurationError, match="--radius has unbalanced brackets or quotation marks"):
        read_style(style_file(tmp_path, f":root {{ --radius: {value}; --accent: #0a5 }}"))


def test_brackets_and_quotation_marks_within_a_font_name(tmp_path: Path) -> None:
    """A string may have what would be unbalanced outside of it."""
    declaration = """--font: "O'Neil)", '(', calc((1px + 2px) * 2);"""
    assert f":root {{ {declaration} }}\n" == read_style(style_file(tmp_path, f":root {{ {declaration} }}"))


def test_a_style_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    """Editors write one, and it is no part of the style."""
    assert ":root { --accent: #0a5; }\n" == read_style(style_file(tmp_path, "\ufeff:root { --accent: #0a5 }"))


def test_a_style_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_style(tmp_path / "none.css")
    (tmp_path / "latin.css").write_bytes(b":root { --a: \xff }")
    with pytest.raises(ConfigurationError, match="UTF-8"):
        read_style(tmp_path / "latin.css")


def test_the_page_is_on_unless_it_is_turned_off() -> None:
    assert "on" == Settings().account_page
