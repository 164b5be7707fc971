"""The scenes of the model of links, and its broken variants: each flaw, and the law that it breaks."""

from dataclasses import dataclass

from tests.model import links
from tests.model.explore import Explored, search
from tests.model.laws import NO_DEADLOCK
from tests.model.links import FIRST_ADDRESS, USERS, Act, Flaw, Links, Scene

ALICE, BOB = USERS
OF_ALICE, OF_BOB, UNUSED = range(FIRST_ADDRESS, FIRST_ADDRESS + 3)
"""The addresses: each user has one at the start, and the third one names no account."""
SIGN_UP, REVOKE = Act("sign up"), Act("revoke")


def _request(user: int, address: int) -> Act:
    return Act("request", user, address)


def _confirm(user: int, address: int, at: int = 0) -> Act:
    return Act("confirm", user, link=(address, at))


def _cancel(user: int, address: int, at: int = 0) -> Act:
    return Act("cancel", user, link=(address, at))


_ONCE = (_request(ALICE, UNUSED), _confirm(ALICE, UNUSED))
_EXCHANGE = (_request(ALICE, OF_BOB), _confirm(ALICE, OF_BOB), _request(BOB, OF_ALICE), _confirm(BOB, OF_ALICE))

SCENES = (
    Scene("an invitation, made and revoked", (Act("invite"), SIGN_UP, SIGN_UP, REVOKE), ticks=3),
    Scene("an invitation, three users", (SIGN_UP, SIGN_UP, SIGN_UP, REVOKE), ticks=2),
    Scene("an invitation, revoked twice", (SIGN_UP, SIGN_UP, REVOKE, REVOKE), ticks=2),
    Scene("an address, confirmed twice", (*_ONCE, _confirm(ALICE, UNUSED), _cancel(ALICE, UNUSED)), ticks=1),
    Scene(
        "an address, requested twice",
        (*_ONCE, _request(ALICE, OF_BOB), _confirm(ALICE, OF_BOB), _cancel(ALICE, UNUSED)),
        ticks=1,
    ),
    Scene(
        "the same request later",
        (*_ONCE, _request(ALICE, UNUSED), _confirm(ALICE, UNUSED, 1), _cancel(ALICE, UNUSED)),
        ticks=1,
    ),
    Scene("an address of two users", (*_ONCE, _request(BOB, UNUSED), _confirm(BOB, UNUSED), Act("remove", ALICE))),
    Scene(
        "users who exchange their addresses",
        (*_EXCHANGE, Act("remove", BOB)),
    ),
    Scene(
        "a former address of another user",
        (*_ONCE, _request(BOB, OF_ALICE), _confirm(BOB, OF_ALICE), Act("remove", ALICE)),
    ),
    Scene(
        "two users and every act",
        (*_ONCE, _cancel(ALICE, UNUSED), _request(BOB, UNUSED), _confirm(BOB, UNUSED), Act("remove", ALICE)),
        ticks=1,
    ),
    Scene(
        "two users and three addresses",
        (*_ONCE, _request(ALICE, OF_BOB), _confirm(ALICE, OF_BOB), _request(BOB, UNUSED), _confirm(BOB, UNUSED)),
        ticks=1,
    ),
)


@dataclass(frozen=True, slots=True)
class Variant:
    flaw: Flaw
    law: str
    scene: Scene


VARIANTS = (
    Variant(Flaw.INVITATION_READ_BEFORE, links.ONE_ACCOUNT, Scene("", (SIGN_UP, SIGN_UP))),
    Variant(Flaw.INVITATION_READ_BEFORE, links.USED_OR_REVOKED, Scene("", (SIGN_UP, REVOKE))),
    Variant(Flaw.REVOKES_USED, links.USED_OR_REVOKED, Scene("", (SIGN_UP, REVOKE))),
    Variant(Flaw.EXPIRY_UNCHECKED, links.IN_TIME, Scene("", (SIGN_UP,), ticks=1)),
    Variant(
        Flaw.ADDRESS_READ_BEFORE, links.NAMES_ONE, Scene("", (*_ONCE, _request(BOB, UNUSED), _confirm(BOB, UNUSED)))
    ),
    Variant(
        Flaw.RELEASES_FIRST,
        NO_DEADLOCK,
        Scene("", _EXCHANGE),
    ),
    Variant(Flaw.KEEPS_FORMER, links.NAMES_ONE, Scene("", _ONCE)),
    Variant(Flaw.CONFIRMS_ANY, links.NEWEST, Scene("", (*_ONCE, _request(ALICE, OF_BOB)))),
    Variant(Flaw.CONFIRMS_ANY, links.CANCELLED, Scene("", (*_ONCE, _cancel(ALICE, UNUSED)))),
    Variant(Flaw.CONFIRMS_KEPT, links.NEWEST, Scene("", (*_ONCE, _confirm(ALICE, UNUSED)))),
    Variant(
        Flaw.CANCELS_ANY,
        links.ONE_CANCELLED,
        Scene("", (_request(ALICE, UNUSED), _cancel(ALICE, UNUSED), _request(ALICE, OF_BOB))),
    ),
)


def find(variant: Variant) -> Explored:
    return search(Links(variant.scene, variant.flaw))
