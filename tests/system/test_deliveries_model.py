"""The model of the outbox and its deliveries: every order of their steps, and the broken variants."""

import functools
import re

import pytest

from service.messages.delivery import BATCH_SIZE
from service.messages.outbox import MAX_HOLDING_ATTEMPTS
from tests.harness.servers import REPOSITORY
from tests.model import delivery_world
from tests.model.deliveries import Deliveries
from tests.model.delivery_scenes import SCENES, VARIANTS, Variant, find
from tests.model.delivery_world import BATCH, MAX_HOLDING, Flaw, Scene
from tests.model.explore import Explored, search

STATEMENTS = (
    ("outbox", "id, {address} FROM {table} WHERE id = $5 AND {address} IS NOT NULL"),
    ("outbox", "WHERE kind <> $1 AND event_id IN (SELECT id FROM events WHERE user_id = $2)"),
    ("outbox", "WHERE o.transport = $1 AND (o.due_at <= $2 OR o.attempts = 0) AND o.event_id <= $3"),
    (
        "outbox",
        "WHERE p.transport = o.transport AND p.recipient = o.recipient AND p.event_id <= o.event_id"
        " AND coalesce(p.address = o.address, TRUE) AND (p.kind = '{EVENT}' OR p.attempts < {MAX_HOLDING_ATTEMPTS})"
        " AND (p.event_id < o.event_id OR p.id < o.id)) ORDER BY o.event_id, o.id LIMIT $4",
    ),
    ("outbox", "places = max(limit // 2, limit - len(fresh))"),
    ("outbox", "DELETE FROM outbox WHERE id = $1"),
    ("outbox", "UPDATE outbox SET attempts = attempts + 1, due_at = $1 WHERE id = $2"),
    ("lease", "WHERE transport = $5 AND (holder = $1 OR holds_until <= $3 OR holds_until > $4)"),
    ("settling", "if seen.outlasts <= running.oldest or"),
    ("settling", "return min(ripe[-1].number, await events.find_gap(self._database, self.number) - 1)"),
    ("contents", "if unix_seconds(now) >= message.occurred_at + lifetime.total_seconds():"),
    ("contents", "WHERE id = $1 AND {NOT_DELETED}"),
)
"""What the model's steps stand for. A change of one of them changes the model, too."""


@functools.cache
def explored(scene: Scene) -> tuple[Explored, frozenset[str]]:
    model = Deliveries(scene)
    return search(model), frozenset(model.happened)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_no_order_of_steps_breaks_a_law(scene: Scene) -> None:
    """Every state that can be reached from a scene keeps the laws."""
    found, _ = explored(scene)
    assert "" == found.law, "\n".join(found.story)
    assert found.is_complete


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: f"{variant.flaw.name}, {variant.law}")
def test_each_flaw_is_found(variant: Variant) -> None:
    """Deliveries broken on purpose break the expected law; without the flaw the same scene keeps it."""
    assert variant.law == find(variant).law
    assert "" == search(Deliveries(variant.scene)).law


def test_every_flaw_and_every_law_has_a_variant() -> None:
    """Each flaw has a variant, and each law is broken by one: no law is trivially true."""
    assert set(Flaw) == {variant.flaw for variant in VARIANTS}
    every = {law for name, law in vars(delivery_world).items() if name.isupper() and isinstance(law, str)}
    assert every == {variant.law for variant in VARIANTS}


def test_every_outcome_happens_in_some_scene() -> None:
    """So do the refusals: a law about what never happens would hold for nothing."""
    assert {
        "records its event", "commits", "is rolled back", "finds no user", "sees an event", "settles an event",
        "takes what is due", "is accepted", "is refused", "drops a message", "postpones a message", "removes a row",
    } == set[str]().union(*(explored(scene)[1] for scene in SCENES))  # fmt: skip


def test_the_model_has_the_statements_of_the_service() -> None:
    """Word for word; and the limits of the model are not above the service's."""
    for module, statement in STATEMENTS:
        text = (REPOSITORY / "service/messages" / f"{module}.py").read_text("utf-8")
        assert statement in re.sub(r'"\s*f?"', "", text).replace('"', ""), f"{module} has changed: {statement}"
    assert BATCH <= BATCH_SIZE
    assert MAX_HOLDING <= MAX_HOLDING_ATTEMPTS
