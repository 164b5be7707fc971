"""Templates of messages. They turn a `Content` into a subject, a text and HTML in the user's language.

A template is a text, `<language>/<kind>.txt`: the first line is the subject, and empty lines separate blocks. If the
last line of a block is the link, the lines before it are the label of the link. If all lines of a block begin with
`- `, it is a list. Any other block is a paragraph. `layout.html` shows the same blocks as HTML, unless there is a
`<language>/<kind>.html`. A file in `KEYTURN_TEMPLATES_DIR` replaces the file of this package that has the same name;
another folder there adds a language.

Users and callers choose some texts, such as names and user agents. Before a template gets such a text, `show`
shortens it, puts it on one line, replaces control characters by spaces, and removes format characters, among them
those that change the direction of text. HTML templates escape it. Jinja2 is loaded at the first rendering.
"""

import re
import textwrap
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from service.errors import ConfigurationError
from service.messages.contents import Content, link_to
from service.messages.kinds import FRAGMENTS, MessageKind

if TYPE_CHECKING:
    from jinja2 import Environment

SETTING = "KEYTURN_TEMPLATES_DIR"
FALLBACK = "en"
"""The language in which every kind exists."""

_OWN = Path(__file__).parent / "templates"
_LAYOUT, _SHARED = "layout.html", "_details.txt"
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8})*")
_CHOSEN_LENGTH = 120
"""Characters of a name or a user agent that a message shows at most."""

_WIDTH = 76
"""Columns of a line of text. RFC 5322 section 2.1.1 recommends at most 78."""


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a message. A list has its lines, a link has its label and its address, a paragraph has one line."""

    kind: Literal["paragraph", "list", "link"]
    lines: tuple[str, ...]

    @property
    def label(self) -> str:
        """The label of a link without its colon."""
        return self.lines[0].removesuffix(":").rstrip()


@dataclass(frozen=True, slots=True)
class Rendered:
    """A message in one language."""

    language: str
    subject: str
    text: str
    html: str


class _Mistake(Exception):
    """A template cannot be rendered. The text has the name of the template and the reason."""


class Templates:
    """Renders messages. `folder` is that of the operator; `product` is the name of the service."""

    def __init__(self, *, folder: Path | None, product: str, locale: str, page_url: str) -> None:
        self._folder = folder
        self._product = product
        self._locale = locale
        self._page_url = page_url

    def render(self, content: Content) -> Rendered:
        """Render a message in the language that `choose_language` finds for its reader. Raises `RuntimeError`."""
        try:
            return self._render(content, self.choose_language(content.kind, content.locale))
        except _Mistake as mistake:
            raise RuntimeError(f"a template fails: {mistake}") from None

    def choose_language(self, kind: MessageKind, locale: str | None) -> str:
        """Return the name of the folder of a language that has this kind.

        It is named by the longest prefix of the reader's language tag (RFC 4647 section 3.4) whose folder has a
        template of this kind. If there is none, the default language decides in the same way, and then `FALLBACK`.
        """
        for tag in (locale, self._locale):
            subtags = (tag or "").lower().split("-")
            for length in range(len(subtags), 0, -1):
                name = self._languages.get(("-".join(subtags[:length]), kind))
                if name is not None:
                    return name
        return FALLBACK

    def check(self) -> None:
        """Raise `ConfigurationError` for a mistake in the operator's templates, or if `KEYTURN_LOCALE` has none."""
        if self._folder is not None:
            if not self._folder.is_dir():
                raise ConfigurationError(f"{SETTING}: {self._folder} is not a folder that can be read.")
            names = list(self._own_names(self._folder))
            for name in names:
                if not self._is_used(name):
                    raise ConfigurationError(
                        f"{SETTING}: {name} is not used: there is no text of its kind in a folder with exactly this "
                        "name of a language. Correct the name, add the .txt file, or remove it."
                    )
            for (_, kind), language in sorted(self._languages.items()):
                concerned = {_LAYOUT, f"{language}/{_SHARED}", f"{language}/{kind}.txt", f"{language}/{kind}.html"}
                if not concerned.isdisjoint(names):
                    self._check(kind, language)
        if not any(self._matches_default(language) for language, _ in self._languages):
            raise ConfigurationError(
                f"KEYTURN_LOCALE: there are no templates for {self._locale}. Add them in {SETTING}, or use en, de, "
                "fr or es."
            )

    def _is_used(self, name: str) -> bool:
        """Whether a message is rendered with this template of the operator."""
        if name == _LAYOUT:
            return True
        language, _, last = name.rpartition("/")
        if last == _SHARED:
            return language in self._languages.values()
        kind = MessageKind(last.rpartition(".")[0])
        return self._languages.get((language.lower(), kind)) == language

    def _matches_default(self, language: str) -> bool:
        return f"{self._locale.lower()}-".startswith(f"{language}-")

    def _check(self, kind: MessageKind, language: str) -> None:
        """Render a kind with all optional values, without them, and, for `email_changed`, without the link."""
        contents = [sample(kind, self._page_url), sample(kind, self._page_url, has_details=False)]
        if kind is MessageKind.EMAIL_CHANGED:
            contents.append(sample(kind, self._page_url, has_link=False))
        for content in contents:
            try:
                self._render(content, language)
            except _Mistake as mistake:
                raise ConfigurationError(f"{SETTING}: {mistake}") from None

    def _own_names(self, folder: Path) -> Iterator[str]:
        """Yield the names of the operator's templates. Raises `ConfigurationError` for another name."""
        kinds = {kind.value for kind in MessageKind}
        for file in sorted(folder.rglob("*")):
            name = file.relative_to(folder).as_posix()
            if file.suffix not in {".txt", ".html"} or any(part.startswith(".") for part in Path(name).parts):
                continue
            language, _, last = name.rpartition("/")
            is_kind = last.removesuffix(file.suffix) in kinds or last == _SHARED
            if name != _LAYOUT and not (_LANGUAGE.fullmatch(language) and is_kind):
                raise ConfigurationError(
                    f"{SETTING}: {name} is not the name of a template. Write <language>/<kind>.txt, such as "
                    "de/password_reset.txt, or remove it."
                )
            yield name

    @cached_property
    def _languages(self) -> dict[tuple[str, MessageKind], str]:
        """The name of the folder, by its name in lower case and by the kind of a template in it."""
        found: dict[tuple[str, MessageKind], str] = {}
        for folder in (_OWN, self._folder):
            for kind in MessageKind if folder is not None else ():
                for file in sorted((folder or _OWN).glob(f"*/{kind}.txt")):
                    found.setdefault((file.parent.name.lower(), kind), file.parent.name)
        return found

    @cached_property
    def _environment(self) -> "Environment":
        from jinja2 import FileSystemLoader, StrictUndefined
        from jinja2.sandbox import SandboxedEnvironment

        return SandboxedEnvironment(
            loader=FileSystemLoader([folder for folder in (self._folder, _OWN) if folder is not None]),
            autoescape=lambda name: name is not None and name.endswith(".html"),
            undefined=StrictUndefined,
            auto_reload=False,
        )

    def _render(self, content: Content, language: str) -> Rendered:
        name = f"{language}/{content.kind}.txt"
        variables = self._variables(content)
        first, _, rest = self._fill(name, variables).lstrip().partition("\n")
        subject, blocks = show(first, 200), list(_blocks(rest, content.link))
        if not subject:
            raise _Mistake(f"{name}: the first line, which is the subject, is empty.")
        if not blocks:
            raise _Mistake(f"{name}: there is no text after the subject.")
        links = sum(block.kind == "link" for block in blocks)
        if content.link is not None and links != 1:
            raise _Mistake(f"{name}: {{{{ link }}}} must stand alone on the last line of exactly one block.")
        page = f"{language}/{content.kind}.html"
        html = self._fill(
            page if self._exists(page) else _LAYOUT,
            {**variables, "language": language, "subject": subject, "blocks": blocks},
        )
        if content.link is not None and self._exists(page) and content.link not in unescape(html):
            raise _Mistake(f"{page}: it does not have {{{{ link }}}}.")
        return Rendered(language, subject, _as_text(blocks), html)

    def _exists(self, name: str) -> bool:
        return any(folder is not None and (folder / name).is_file() for folder in (self._folder, _OWN))

    def _fill(self, name: str, variables: dict[str, Any]) -> str:
        """Fill in one template. Raises `_Mistake` with its name and the reason."""
        from jinja2 import TemplateError, TemplateSyntaxError

        try:
            return self._environment.get_template(name).render(variables)
        except TemplateSyntaxError as error:
            raise _Mistake(f"{error.name or name}: line {error.lineno}: {error.message}.") from None
        except (TemplateError, OSError, UnicodeError) as error:
            reason = getattr(error, "message", None) or getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise _Mistake(f"{name}: {reason}.") from None
        except Exception as error:  # noqa: BLE001 -- an expression of the template may raise anything
            raise _Mistake(f"{name}: an expression fails ({type(error).__name__}).") from None

    def _variables(self, content: Content) -> dict[str, Any]:
        """Return the variables for templates. Without a link, `link` and `expires` are absent; others can be None."""
        details = content.details
        chosen = {name: details.get(name) for name in ("address", "user_agent", "factor")}
        due_at = details.get("due_at")
        variables: dict[str, Any] = {
            **{name: None if value is None else show(str(value)) for name, value in chosen.items()},
            "product": show(self._product),
            "page": self._page_url,
            "username": None if content.username is None else show(content.username),
            "time": _utc(content.occurred_at),
            "due": _utc(due_at) if isinstance(due_at, int) else None,
        }
        if content.link is not None and content.expires_at is not None:
            variables |= {"link": content.link, "expires": _utc(content.expires_at)}
        return variables


_LINK_BEGINS = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)", re.IGNORECASE)
"""The places at which `show` breaks up what mail programs take for the beginning of a link."""


def show(text: str, length: int = _CHOSEN_LENGTH) -> str:
    """Return a text that a user or a caller chose, on one line.

    Control characters become spaces. Format characters (among them those that change the direction of text),
    surrogates, and private and unassigned characters are removed. `://` and `www.` get a space, because mail programs
    would make a link of them.
    """
    categories = ((character, unicodedata.category(character)) for character in text)
    kept = "".join(
        " " if category in {"Cc", "Zl", "Zp", "Zs"} else character
        for character, category in categories
        if category not in {"Cf", "Cs", "Co", "Cn"}
    )
    line = " ".join(_LINK_BEGINS.sub(" ", kept).split())
    return line if len(line) <= length else f"{line[: length - 3]}..."


def sample(
    kind: MessageKind, page_url: str, *, has_details: bool = True, has_link: bool = True, locale: str | None = None
) -> Content:
    """Return a content with invented values, for previews and checks. `has_link` is for `email_changed`."""
    occurred_at = int(datetime(2026, 11, 30, 8, 30, tzinfo=UTC).timestamp())
    token = "ktl_example" if kind in FRAGMENTS and has_link else None
    details: dict[str, str | int] = {
        "address": "203.0.113.7",
        "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        "factor": "Phone",
        "due_at": occurred_at + 72 * 3600,
    }
    is_invitation = kind is MessageKind.INVITATION
    return Content(
        id=f"msg_{occurred_at}_1_{kind}",
        kind=kind,
        occurred_at=occurred_at,
        to="alice@example.com",
        sub=None if is_invitation else "pZ9yKq2mX0d4Wc1bR7tLhA",
        username=None if is_invitation else "alice",
        locale=locale,
        link=None if token is None else link_to(page_url, kind, token),
        token=token,
        expires_at=None if token is None else occurred_at + 3600,
        details=details if has_details else {},
    )


def _utc(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _blocks(text: str, link: str | None) -> Iterator[Block]:
    for part in re.split(r"\n\s*\n", text.strip()):
        lines = [line.strip() for line in part.splitlines()]
        if not any(lines):
            continue
        if link is not None and lines[-1] == link:
            yield Block("link", (" ".join(lines[:-1]), link))
        elif all(line.startswith("- ") for line in lines):
            yield Block("list", tuple(line.removeprefix("- ") for line in lines))
        else:
            yield Block("paragraph", (" ".join(lines),))


def _as_text(blocks: list[Block]) -> str:
    parts = []
    for block in blocks:
        match block.kind:
            case "link":
                parts.append("\n".join(filter(None, block.lines)))
            case "list":
                parts.append("\n".join(_wrap(f"- {line}", indent="  ") for line in block.lines))
            case "paragraph":
                parts.append(_wrap(block.lines[0]))
    return "\n\n".join(parts) + "\n"


def _wrap(text: str, *, indent: str = "") -> str:
    return textwrap.fill(text, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
