"""The model of the protocol in its quick size; `make model` explores the larger one."""

import functools
import inspect
import re
from pathlib import Path

import pytest

from service.factors.attempts import FREE_FAILURES, MAX_FAILURES
from service.storage.throttle import CODES_PER_PENDING_TOKEN
from tests.model import laws
from tests.model.cast import PLANS, Scene, plans
from tests.model.explore import Explored, explore
from tests.model.flaws import Flaw
from tests.model.protocol import STEPS, Protocol
from tests.model.scenes import QUICK
from tests.model.variants import VARIANTS, Variant, find

REPOSITORY = Path(__file__).parents[2]

STATEMENTS = (
    ("service/factors/attempts.py", "WHERE id = $1 AND waits_until <= $2 AND {_FIFTIETH} <= $4 RETURNING failures"),
    (
        "service/factors/attempts.py",
        "failures = 0, waits_until = 0, recent_failures = substr(recent_failures, {_DIGITS + 1})",
    ),
    ("service/factors/totp_authenticators.py", "WHERE id = $3 AND epoch = $4 AND last_step < $1{guards}"),
    ("service/login/pending.py", "NOT EXISTS (SELECT 1 FROM sessions WHERE pending_jti = $3)"),
    ("service/login/pending.py", 'state = "users.disabled_at IS NULL"'),
    ("service/login/pending.py", "WHERE users.id = $1 AND users.epoch = $2 AND {state} AND {condition}"),
    ("service/factors/totp_authenticators.py", 'return f"otp:{{{self.factor.id}}}:{self.step}"'),
    ("service/factors/totp_authenticators.py", "UPDATE totp_authenticators SET {attempts.REFUND} WHERE id = $1"),
    ("service/factors/totp_authenticators.py", "WHERE id = $1 AND last_step = $2 AND told_at >= $3"),
    (
        "service/factors/totp_authenticators.py",
        "SET last_step = $1, told_at = $2 WHERE id = $3 AND last_step < $1 RETURNING id",
    ),
    (
        "service/factors/totp_authenticators.py",
        " AND last_step = $1 - 1 AND told_at >= {unix_seconds(now - REALIGNED_WITHIN)}",
    ),
    ("service/factors/recovery_codes.py", "SET used_at = $1 WHERE user_id = $2 AND digest = $3 AND used_at IS NULL"),
    ("service/sessions/sessions.py", "ON CONFLICT (pending_jti) DO NOTHING"),
    (
        "service/sessions/sessions.py",
        "WHERE id = $1 AND generation = $3 AND {_IS_LIVE} AND {_USER_IS_ENABLED}{policy.guard} RETURNING",
    ),
    (
        "service/sessions/sessions.py",
        "WHERE id = $1 AND generation = $3 AND replaced_at >= $4 AND {_IS_LIVE} AND {_USER_IS_ENABLED}{policy.guard}",
    ),
    (
        "service/sessions/sessions.py",
        "AND {_IS_LIVE} AND (generation > $3 OR (generation = $3 AND replaced_at < $4))",
    ),
    ("service/sessions/sessions.py", "id = $3 AND raised = $4 AND ended_at IS NULL AND expires_at > $5"),
    ("service/sessions/sessions.py", "ended_reason = $2 WHERE user_id = $3 AND ended_at IS NULL AND id <> $4"),
    (
        "service/users/users.py",
        "UPDATE users SET epoch = epoch WHERE id = $1 AND epoch = $2 AND disabled_at IS NULL AND roles = $3",
    ),
    (
        "service/users/users.py",
        "UPDATE users SET epoch = epoch WHERE id = $1 AND {NOT_DELETED} RETURNING {COLUMNS}",
    ),
    (
        "service/sessions/sessions.py",
        "{_END_NONCOMPLIANT} WHERE user_id = $1 AND {_IS_LIVE} AND NOT {policy.condition}",
    ),
    ("service/users/users.py", "UPDATE users SET epoch = epoch + 1, password_hash = COALESCE($3, password_hash)"),
    ("service/users/users.py", "UPDATE totp_authenticators SET epoch = $1 WHERE user_id = $2"),
    (
        "service/users/users.py",
        "UPDATE users SET epoch = epoch + 1, password_hash = $3, password_reset_at = $4, recovery_due_at = NULL,"
        " new_email = NULL, new_email_at = NULL WHERE id = $1 AND epoch = $2 AND disabled_at IS NULL RETURNING",
    ),
    ("service/users/users.py", "UPDATE users SET password_reset_at = NULL WHERE id = $1"),
    (
        "service/users/users.py",
        "UPDATE users SET recovery_due_at = $1 WHERE id = $2 AND epoch = $3 AND disabled_at IS NULL"
        " AND (recovery_due_at IS NULL OR recovery_due_at <= $4)",
    ),
    (
        "service/users/users.py",
        " WHERE id = $1 AND epoch = $2 AND disabled_at IS NULL AND COALESCE($4, recovery_due_at, 0) ="
        " COALESCE(recovery_due_at, 0)",
    ),
    ("service/users/users.py", "UPDATE users SET disabled_at = $1, deletion_requested_at = NULL,"),
    ("service/login/recovery.py", 'proved.user.mfa == "confirmed" and proved.user.password_reset_at is None'),
    ("service/login/pending.py", "state, parameters = deletions.RESTORABLE, (claims.jti, unix_seconds(now))"),
    (
        "service/users/deletions.py",
        "deletion_due_at = $4 WHERE id = $1 AND epoch = $2 AND roles = $5 AND disabled_at IS NULL",
    ),
    (
        "service/users/deletions.py",
        "SET epoch = epoch + 1, disabled_at = NULL, deletion_requested_at = NULL, deletion_due_at = NULL"
        " WHERE id = $1 AND epoch = $2 AND roles = $3 AND {RESTORABLE}",
    ),
    (
        "service/users/deletions.py",
        "users.deletion_requested_at = users.disabled_at AND users.deletion_due_at > $4",
    ),
    ("service/users/deletions.py", "UPDATE users SET epoch = epoch WHERE {_IS_DUE} AND id = $2"),
)
"""The statements that the model's steps stand for. A change of one of them changes the model, too."""


@functools.cache
def explored(scene: Scene) -> tuple[Explored, set[tuple[str, str, str]]]:
    """Explore a scene; return the result and everything that happened in it."""
    protocol = Protocol(scene)
    return explore(protocol), protocol.happened


@pytest.mark.parametrize("scene", QUICK, ids=lambda scene: scene.name)
def test_no_order_of_events_breaks_a_law(scene: Scene) -> None:
    """Every state that can be reached from a scene keeps the laws."""
    found, _ = explored(scene)
    assert "" == found.law, "\n".join(found.story)


def test_every_step_is_taken_in_some_scene() -> None:
    """A law about a step that never happens would hold for nothing."""
    happened = set[tuple[str, str, str]]().union(*(explored(scene)[1] for scene in QUICK))
    elsewhere = {"find_pending", "commit", "answer"}  # the first leads to a plan, the others are in every one
    steps = {(plan, step) for plan, steps in PLANS.items() for step in steps if step not in elsewhere}
    steps.remove(("recovering", "find_user"))  # this step of a login leads to the plan
    assert set() == steps - {(plan, step) for plan, step, _ in happened}
    outcomes = {text for _, _, text in happened}
    for outcome in (
        "claims it in Redis, which had lost it",
        "charges in Redis, which had lost the count",
        "Redis does not answer (and did it): claims it in this process",
        "Redis does not answer: this process knows the claim",
        "Redis does not answer: claims it in this process, which was restarted",
        "Redis does not answer: this process counts too many",
        "is the next code",
        "is reported as out of step",
        "its code is of an older credential version",
        "its token was used",
        "its session has ended or was raised already",
        "gets the successor again",
        "keeps the generation",
        "ends the sessions, and waits for a row",
        "ends the sessions opened by the password alone, and waits for a row",
        "presents a token of a session that the policy refuses",
        "must enrol first",
        "the account is disabled",
        "starts no recovery",
        "its recovery was cancelled",
        "the deletion cannot be taken back any more",
        "finds no deletion that is due",
    ):
        assert outcome in outcomes


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: f"{variant.flaw.name}, {variant.law}")
def test_each_flaw_is_found(variant: Variant) -> None:
    """A protocol broken on purpose breaks the expected law; without the flaw the same scene keeps it."""
    assert variant.law == find(variant).law
    assert "" == explore(Protocol(variant.scene)).law


def test_every_flaw_and_every_law_has_a_variant() -> None:
    """Each flaw has a variant, and each law is broken by one: no law is trivially true."""
    assert set(Flaw) == {variant.flaw for variant in VARIANTS}
    every = {law for name, law in vars(laws).items() if name.isupper() and isinstance(law, str)}
    assert every == {variant.law for variant in VARIANTS}


def test_a_broken_law_is_reported_as_a_sequence_of_steps() -> None:
    """It is the shortest sequence, from the requests to the commit that breaks the law."""
    (variant,) = (variant for variant in VARIANTS if variant.flaw is Flaw.CONSUMES_IN_TWO)
    story = find(variant).story
    assert story[0] == ("A = POST /login-2fa at replica 1, pending token 0, the code of step 0: its token is valid")
    assert "B claims it in Redis, which had lost it" in story
    assert story[-1] in {"A commits", "B commits"}
    assert 16 == len(story)


def test_the_model_matches_the_service() -> None:
    """The service has the statements that the steps stand for, and its limits are not below the model's."""
    for file, statement in STATEMENTS:
        text = re.sub(r'"\s*f?"', "", (REPOSITORY / file).read_text("utf-8"))
        assert statement in text, f"{file} has changed: {statement}"
    assert laws.FREE_FAILURES <= FREE_FAILURES
    assert laws.MAX_FAILURES <= MAX_FAILURES
    assert laws.CODES_PER_PENDING_TOKEN <= CODES_PER_PENDING_TOKEN


def test_every_step_is_described() -> None:
    """Each step of a plan is one of the model's, or a commit or an answer, and has a docstring."""
    named = {step for flaw in (None, *Flaw) for plan in plans(flaw).values() for step in plan}
    assert named == {*STEPS, "commit", "answer"}
    assert all(inspect.getdoc(step) for step in STEPS.values())
