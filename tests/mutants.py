"""`make mutants`: each guard is taken away, one line at a time, and the suite must notice.

A mutant is a line of the source without what it guards, and the tests that have to fail then. Survivors are printed;
there must be none. It works on a copy: the tree stays as it is.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
COPIED = ("service", "tests", "bench", "examples", "pyproject.toml", "README.md", "openapi.json", "Makefile")


@dataclass(frozen=True, slots=True)
class Mutant:
    """`old` stands in the file once, and becomes `new`; one of the tests that match must fail."""

    guard: str
    file: str
    old: str
    new: str
    tests: str


MUTANTS = (
    # The second factor
    Mutant("a step is consumed once", "service/factors.py", " AND last_step < $1", "", "test_races.py -k consuming"),
    Mutant("a code belongs to its epoch", "service/factors.py", " AND epoch = $4", " AND $4 = $4", "test_account_races.py test_enrolment.py"),
    Mutant("an attempt is paid before", "service/factors.py", "not await attempts.reserve(self._database, \"factors\", factor.id, now)", "False", "test_budgets.py"),
    Mutant("a factor waits", "service/attempts.py", "waits_until <= $2 AND ", "", "test_budgets.py"),
    Mutant("fifty failures in thirty days", "service/attempts.py", " AND {_FIFTIETH} <= $4", " AND $4 = $4", "test_budgets.py"),
    Mutant("six ASCII digits", "service/totp.py", "[0-9]{6}", r"\\d{6}", "test_totp.py"),
    Mutant("five codes a pending token", "service/throttle.py", "CODES_PER_PENDING_TOKEN = 5", "CODES_PER_PENDING_TOKEN = 500", "test_budgets.py"),
    Mutant("a confirmed factor is not replaced", "service/factors.py", "WHERE user_id = $1 AND confirmed_at IS NULL\", user_id)", "WHERE user_id = $1\", user_id)", "test_enrolment.py"),
    Mutant("a pending token is dead once used", "service/factors.py", "NOT EXISTS (SELECT 1 FROM sessions WHERE pending_jti = $3)", "$3 = $3", "test_two_turns.py test_budgets.py"),
    Mutant("a pending token admits once", "service/sessions.py", " ON CONFLICT (pending_jti) DO NOTHING", "", "test_races.py -k two_good_codes"),
    Mutant("a pending token is bound to the epoch", "service/factors.py", "u.epoch = $2 AND ", "$2 = $2 AND ", "test_enrolment.py test_sessions.py"),
    Mutant("a recovery code is used once", "service/recovery_codes.py", " AND used_at IS NULL\",\n                epoch(now)", "\",\n                epoch(now)", "test_recovery_codes.py"),
    Mutant("recovery codes have a budget", "service/recovery_codes.py", "not await attempts.reserve(self._database, \"recovery_budgets\", user_id, now)", "False", "test_recovery_codes.py test_budgets.py"),
    Mutant("the QR code is gone once confirmed", "service/enrolment.py", " or factor.is_confirmed:", ":", "test_enrolment.py"),
    Mutant("the QR code is its owner's", "service/enrolment.py", "user.username != username.lower() or ", "", "test_enrolment.py"),
    Mutant("disabling takes the code", "service/enrolment.py", "changed is None or not await self._factors.consume(transaction, changed, proof, now)", "changed is None", "test_races.py test_enrolment.py"),
    # Passwords and people
    Mutant("a dummy hash for nobody", "service/passwords.py", "return is_right and hashed is not None", "return is_right", "test_passwords.py"),
    Mutant("a disabled user is refused", "service/login.py", " or user.is_disabled:\n            reason", ":\n            reason", "test_account_races.py test_cli.py test_moving.py"),
    Mutant("the hashing queue is bounded", "service/passwords.py", "len(self._taken) >= self._room and ", "False and ", "test_passwords.py"),
    Mutant("a refused payment is given back", "service/ephemeral.py", "        if counter.paid <= 0:\n            del self._counters[key]\n", "", "test_ephemeral.py -k leaves_nothing"),
    Mutant("the address limits", "service/throttle.py", "Charge(f\"address:{{{origin}}}\", self._login_address),", "", "test_budgets.py test_callers.py"),
    Mutant("the address is the peer's", "service/web/caller.py", "if self._trusted and self._is_trusted(address):", "if True:", "test_callers.py"),
    # Tokens
    Mutant("a token has its type", "service/tokens.py", "decoded[\"header\"].get(\"typ\") != typ or ", "", "test_tokens.py"),
    Mutant("a token ends", "service/tokens.py", " < _whole(claims[\"exp\"])", "", "test_tokens.py"),
    Mutant("a refresh token has its MAC", "service/tokens.py", "if not any(hmac.compare_digest", "if False and not any(hmac.compare_digest", "test_sessions.py"),
    Mutant("a refresh token has one spelling", "service/tokens.py", " or token != _REFRESH_PREFIX + _base64(data)", "", "test_sessions.py"),
    Mutant("a client's token is no person's", "service/tokens.py", "if claims[\"client_id\"] != claims[\"sub\"]:", "if False:", "test_tokens.py"),
    Mutant("a sealed value stays in its row", "service/sealing.py", "\"\\x1f\".join((purpose, table, row))", "\"\\x1f\".join((purpose, table))", "test_sealing.py"),
    # Sessions
    Mutant("one generation rotates", "service/sessions.py", "id = $1 AND generation = $3 AND {_IS_LIVE} RETURNING", "id = $1 AND $3 = $3 AND {_IS_LIVE} RETURNING", "test_sessions.py"),
    Mutant("the grace ends", "service/sessions.py", " AND replaced_at >= $4 AND {_IS_LIVE}", " AND $4 = $4 AND {_IS_LIVE}", "test_sessions.py"),
    Mutant("reuse ends the session", "service/sessions.py", "(generation > $3 OR (generation = $3 AND replaced_at < $4))", "$3 > $4", "test_sessions.py"),
    Mutant("an ended session is dead", "service/sessions.py", "_IS_LIVE = \"ended_at IS NULL AND ", "_IS_LIVE = \"", "test_sessions.py"),
    Mutant("an expired session is dead", "service/sessions.py", "_IS_LIVE = \"ended_at IS NULL AND expires_at > $2\"", "_IS_LIVE = \"ended_at IS NULL AND $2 = $2\"", "test_sessions.py"),
    Mutant("a month at most", "service/sessions.py", "CASE WHEN ends_at < $4 THEN ends_at ELSE $4 END", "$4", "test_sessions.py"),
    Mutant("a step-up raises once", "service/sessions.py", "id = $3 AND raised = $4 AND", "id = $3 AND $4 = $4 AND", "test_sessions.py"),
    Mutant("a session is its owner's to end", "service/sessions.py", "user_id = COALESCE($4, user_id)", "COALESCE($4, user_id) = COALESCE($4, user_id)", "test_sessions.py"),
    Mutant("a password change ends sessions", "service/accounts.py", "await sessions.end_all(transaction, user.id, reason=\"password_changed\", now=now, but=access.sid)", "pass", "test_sessions.py"),
    Mutant("/verify knows who logged out", "service/bearers.py", "if access.sid in self._ended:", "if False:", "test_verify.py"),
    Mutant("/verify wants the level", "service/bearers.py", "if is_weak or is_old:", "if is_old:", "test_verify.py"),
    Mutant("/verify wants it recent", "service/bearers.py", "if is_weak or is_old:", "if is_weak:", "test_verify.py"),
    Mutant("a remembered token ends", "service/bearers.py", " and epoch(now) < access.expires_at", "", "test_verify.py"),
    Mutant("a fresh second factor", "service/bearers.py", "if access.acr != \"aal2\" or epoch(self._clock()) - access.auth_time > FRESH:", "if False:", "test_recovery_codes.py"),
    # Services and keys
    Mutant("a client has its scopes", "service/grants.py", "if not set(asked) <= set(client.scopes):", "if False:", "test_services.py"),
    Mutant("introspection is for clients", "service/web/tokens.py", "        token = need(form, \"token\")\n        await need_client(request, form)\n", "        token = need(form, \"token\")\n", "test_services.py"),
    Mutant("a replaced secret ends", "service/clients.py", "CASE WHEN previous_until > $2 THEN previous_digest END", "CASE WHEN $2 = $2 THEN previous_digest END", "test_services.py"),
    Mutant("a revoked key is not published", "service/keys.py", "FROM signing_keys WHERE revoked_at IS NULL\"\n            \" AND ", "FROM signing_keys WHERE \"\n            \"", "test_keys.py -k revo"),
    Mutant("a key is published ahead", "service/keys.py", "max(ends, now + PUBLISHED_AHEAD)", "max(ends, now)", "test_keys.py -k slept"),
    # The edge
    Mutant("no member twice", "service/web/wire.py", "if len(members) != len(pairs):", "if False:", "test_hostile_input.py"),
    Mutant("16 KiB of body", "service/web/wire.py", "if len(body) > MAX_BODY:", "if False:", "test_hostile_input.py test_wire.py"),
    Mutant("no demand is ignored", "service/web/verify.py", " or not demands.keys() <= {\"acr\", \"max_age\"}", "", "test_verify.py"),
)  # fmt: skip


def main(word: str = "") -> int:
    """All of them, or those whose guard has this word in its name."""
    chosen = [mutant for mutant in MUTANTS if word in mutant.guard]
    survivors = []
    with tempfile.TemporaryDirectory(prefix="keyturn-mutants-") as folder:
        tree = Path(folder)
        for name in COPIED:
            source = REPOSITORY / name
            if source.is_dir():
                shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, tree / name)
        for number, mutant in enumerate(chosen, 1):
            verdict = "killed" if is_killed(tree, mutant) else "SURVIVED"
            if verdict != "killed":
                survivors.append(mutant)
            sys.stdout.write(f"{number:3} of {len(chosen)}  {verdict:9} {mutant.guard}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(survivors)} of {len(chosen)} survived.\n")
    return 1 if survivors else 0


def is_killed(tree: Path, mutant: Mutant) -> bool:
    """Whether the mutant's tests fail without the guard."""
    file = tree / mutant.file
    before = file.read_text("utf-8")
    if before.count(mutant.old) != 1:
        raise RuntimeError(
            f"{mutant.guard}: the line to change stands {before.count(mutant.old)} times in {mutant.file}"
        )
    file.write_text(before.replace(mutant.old, mutant.new), "utf-8")
    words = mutant.tests.split()
    tests = [f"tests/{word}" if word.endswith(".py") else word for word in words]
    try:
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests],
            cwd=tree, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    finally:
        file.write_text(before, "utf-8")
    if run.returncode not in {0, 1, 2}:
        raise RuntimeError(f"{mutant.guard}: pytest ended with {run.returncode}")
    return run.returncode != 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
