"""The model of invitations and changes of an e-mail address: every order of their steps, and the broken variants."""

import functools
import inspect
import re

import pytest

from tests.harness.servers import REPOSITORY
from tests.model import links
from tests.model.explore import Explored, search
from tests.model.link_scenes import SCENES, VARIANTS, Variant, find
from tests.model.links import BEFORE, PLANS, STEPS, Flaw, Links, Scene

STATEMENTS = (
    ("accounts/invitations", "if found is None or found.used_at is not None or found.expires_at != link.expires_at"),
    ("users/invitations", "SET used_at = $2, used_by = $3 WHERE id = $1 AND used_at IS NULL AND expires_at > $2"),
    ("users/invitations", "DELETE FROM invitations WHERE id = $1 AND used_at IS NULL"),
    ("users/emails", "UPDATE users SET new_email = $1, new_email_at = $2 WHERE id = $3 AND epoch = $4"),
    (
        "users/emails",
        "UPDATE users SET new_email = NULL, new_email_at = NULL"
        " WHERE id = $1 AND new_email = $2 AND new_email_at = $3 AND {_ENABLED} RETURNING",
    ),
    (
        "users/emails",
        "UPDATE users SET new_email = NULL, new_email_at = NULL"
        " WHERE id = $1 AND new_email = $2 AND new_email_at = $3,",
    ),
    ("users/emails", "UPDATE users SET email = $1 WHERE id = $2"),
    ("users/emails", "UPDATE users SET email = NULL, new_email = NULL, new_email_at = NULL WHERE id = $1"),
    ("users/addresses", "ON CONFLICT (address) DO UPDATE SET user_id = excluded.user_id WHERE addresses.user_id"),
    ("users/addresses", "DELETE FROM addresses WHERE address = $1 AND user_id = $2"),
)
"""The statements that the model's steps stand for. A change of one of them changes the model, too."""


@functools.cache
def explored(scene: Scene) -> tuple[Explored, frozenset[tuple[str, str, str]]]:
    model = Links(scene)
    return search(model), frozenset(model.happened)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_no_order_of_steps_breaks_a_law(scene: Scene) -> None:
    """Every state that can be reached from a scene keeps the laws."""
    found, _ = explored(scene)
    assert "" == found.law, "\n".join(found.story)
    assert found.is_complete


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: f"{variant.flaw.name}, {variant.law}")
def test_each_flaw_is_found(variant: Variant) -> None:
    """A protocol broken on purpose breaks the expected law; without the flaw the same scene keeps it."""
    assert variant.law == find(variant).law
    assert "" == search(Links(variant.scene)).law


def test_every_flaw_and_every_law_has_a_variant() -> None:
    """Each flaw has a variant, and each law is broken by one: no law is trivially true."""
    assert set(Flaw) == {variant.flaw for variant in VARIANTS}
    every = {law for name, law in vars(links).items() if name.isupper() and isinstance(law, str)}
    assert every == {variant.law for variant in VARIANTS}


def test_every_step_is_taken_in_some_scene() -> None:
    """So are the refusals: a law about what never happens would hold for nothing."""
    happened = set[tuple[str, str, str]]().union(*(explored(scene)[1] for scene in SCENES))
    steps = {(plan, step) for plan, steps in PLANS.items() for step in steps if step != "commit"}
    assert steps == {(plan, step) for plan, step, _ in happened}
    assert {
        "its invitation is not valid", "its invitation was used or revoked", "the invitation was used",
        "its link is not valid", "its request was replaced or has ended", "the address names another account",
        "releases the former one",
    } <= {text for _, _, text in happened}  # fmt: skip


def test_every_step_is_described() -> None:
    """Each step of a plan is one of the model's, or a commit, and has a docstring."""
    assert {*STEPS, "commit"} == {step for plan in (*PLANS.values(), *BEFORE.values()) for step in plan}
    assert all(inspect.getdoc(step) for step in STEPS.values())


def test_the_model_has_the_statements_of_the_service() -> None:
    """Word for word."""
    for module, statement in STATEMENTS:
        text = (REPOSITORY / "service" / f"{module}.py").read_text("utf-8")
        assert statement in re.sub(r'"\s*f?"', "", text).replace('"', ""), f"{module} has changed: {statement}"
