"""The scenes of the model of deliveries, and its broken variants: each flaw, and the law that it breaks."""

from dataclasses import dataclass

from tests.model import delivery_world as laws
from tests.model.deliveries import Deliveries
from tests.model.delivery_world import Act, Flaw, Scene
from tests.model.explore import Explored, search

RESET, NOTICE, CHANGE, LOGOUT, DELETE = map(Act, ("reset", "notice", "change", "logout", "delete"))
OTHER = Act("notice", 1)

SCENES = (
    Scene("events of a user, two replicas", (LOGOUT, LOGOUT), has_messages=False),
    Scene("events of two users, one replica", (LOGOUT, LOGOUT, Act("logout", 1)), has_messages=False, replicas=1),
    Scene("mail, and an address that changes", (CHANGE, NOTICE), has_events=False),
    Scene("mail to two users, one replica", (CHANGE, NOTICE, OTHER), has_events=False, replicas=1),
    Scene("mail that is refused, one replica", (NOTICE, NOTICE), ticks=3, refusals=3, has_events=False, replicas=1),
    Scene("a link that expires", (RESET,), ticks=3, refusals=2),
    Scene("a deletion while a message waits", (RESET, DELETE)),
    Scene("a deletion and a logout", (LOGOUT, DELETE), ticks=2),
)


@dataclass(frozen=True, slots=True)
class Variant:
    flaw: Flaw
    law: str
    scene: Scene


_MAIL = Scene("", (NOTICE,), has_events=False)
_LOGOUTS = Scene("", (LOGOUT, LOGOUT), has_messages=False, ticks=0, kills=0)

VARIANTS = (
    Variant(Flaw.REMOVES_FIRST, laws.AT_LEAST_ONCE, _MAIL),
    Variant(Flaw.DROPS_REFUSED, laws.AT_LEAST_ONCE, _MAIL),
    Variant(Flaw.OUTSIDE, laws.COMMITTED, _MAIL),
    Variant(Flaw.EXPIRY_UNCHECKED, laws.IN_TIME, Scene("", (RESET,), has_events=False)),
    Variant(Flaw.USER_UNCHECKED, laws.DELETED, Scene("", (NOTICE, DELETE), has_events=False)),
    Variant(Flaw.UNLOCKED, laws.LAST, Scene("", (LOGOUT, DELETE), ticks=0, kills=0, refusals=0)),
    Variant(Flaw.UNSETTLED, laws.ORDER, _LOGOUTS),
    Variant(Flaw.UNHELD, laws.ORDER, _LOGOUTS),
    Variant(Flaw.ADDRESS_READ_LATE, laws.ADDRESS, Scene("", (CHANGE,), has_events=False)),
    Variant(Flaw.LEASE_KEPT, laws.EMPTY, _MAIL),
    Variant(Flaw.WAITS_FOR_GAPS, laws.EMPTY, _LOGOUTS),
    Variant(Flaw.KEEPS_ACCEPTED, laws.EMPTY, _MAIL),
    Variant(Flaw.HELD_FOR_EVER, laws.OTHERS, Scene("", (NOTICE, NOTICE), has_events=False)),
)


def find(variant: Variant) -> Explored:
    return search(Deliveries(variant.scene, variant.flaw))
