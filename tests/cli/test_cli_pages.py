"""`keyturn users list` page by page, and its filter for enabled accounts."""

import json
import re

import pytest

from tests.harness.commands import DONE, MISUSED, CommandOutput, Here, Invocation
from tests.harness.import_files import ANY_HASH

NAMES = ["alice", "bob", "carol", "dave", "erin"]
NEXT = re.compile(r"The next page: (--cursor=[A-Za-z0-9_-]+)\n")


@pytest.fixture
def people(here: Here) -> Here:
    """Five accounts; bob and erin are disabled."""
    lines = [{"username": name, "password_hash": ANY_HASH, "disabled": name in {"bob", "erin"}} for name in NAMES]
    imported = here("users", "import", "-", given="\n".join(map(json.dumps, lines)))
    assert DONE == imported.status, imported.err
    return here


def names(output: CommandOutput) -> list[str]:
    header, *rows = output.out.splitlines()
    assert header.startswith("USERNAME")
    return [row.split()[0] for row in rows]


def test_accounts_are_listed_by_their_state(people: Here) -> None:
    """Enabled ones, disabled ones, or all; both at once is wrong usage."""
    enabled, disabled, both = people.run_all(
        Invocation(("users", "list", "--enabled")),
        Invocation(("users", "list", "--disabled")),
        Invocation(("users", "list", "--enabled", "--disabled")),
    )
    assert (["alice", "carol", "dave"], ["bob", "erin"]) == (names(enabled), names(disabled))
    assert (MISUSED, "") == (both.status, both.out)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ((), [NAMES[:2], NAMES[2:4], NAMES[4:]]),
        (("--enabled",), [["alice", "carol"], ["dave"]]),
        (("bo",), [["bob"]]),
    ],
)
def test_a_list_is_read_page_by_page(people: Here, filters: tuple[str, ...], expected: list[list[str]]) -> None:
    """Standard error has the cursor of the next page and nothing on the last one; JSON has it beside the accounts."""
    pages: list[list[str]] = []
    cursors: list[str] = []
    for _ in range(5):
        page = people("users", "list", *filters, "--limit", "2", *cursors[-1:])
        assert DONE == page.status
        pages.append(names(page))
        found = NEXT.fullmatch(page.err)
        if found is None:
            assert "" == page.err
            break
        cursors.append(found[1])
    assert (expected, len(expected) - 1) == (pages, len(cursors))
    first = people("users", "list", *filters, "--limit", "2", "--json")
    answer = json.loads(first.out)
    assert expected[0] == [account["username"] for account in answer["users"]]
    assert (len(expected) == 1, "") == (answer["next_cursor"] is None, first.err)
    if len(expected) > 1:
        second = people("users", "list", *filters, "--limit", "2", "--json", f"--cursor={answer['next_cursor']}")
        assert expected[1] == [account["username"] for account in json.loads(second.out)["users"]]


def test_a_page_that_cannot_be_is_refused(people: Here) -> None:
    """A limit outside its range, a cursor without a limit, a forged one, and one of other filters."""
    page = people("users", "list", "--limit", "2")
    found = NEXT.fullmatch(page.err)
    assert found is not None
    limit = "--limit: This must be 1 to 200.\n"
    cursor = "--cursor: This is no cursor of this list with these filters. Begin again without a cursor.\n"
    wrong = [
        (("--limit", "0"), limit),
        (("--limit=-1",), limit),
        (("--limit", "201"), limit),
        (("--limit", "201", "--email", "a@example.com"), limit),
        ((found[1],), "--cursor names a page. Give --limit too.\n"),
        (("--limit", "2", "--cursor", "x"), cursor),
        (("--limit", "2", "--cursor="), cursor),
        (("--limit", "2", "--enabled", found[1]), cursor),
        (("al", "--limit", "2", found[1]), cursor),
    ]
    refused = people.run_all(*(Invocation(("users", "list", *arguments)) for arguments, _ in wrong))
    for (arguments, sentence), output in zip(wrong, refused, strict=True):
        assert CommandOutput(MISUSED, "", f"keyturn: {sentence}") == output, arguments
    for text in ("x", "1.5", ""):
        output = people("users", "list", "--limit", text)
        assert (MISUSED, "") == (output.status, output.out)
