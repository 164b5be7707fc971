"""`make mutants`: remove each guard, one at a time, and check that a test fails.

A mutant is a line of the source without its guard, and the tests of which one must fail then. The program prints the
survivors, of which there must be none. It works on a copy and does not change the tree.
"""

import compileall
import os
import py_compile
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
COPIED = (
    "service",
    "clients",
    "tests",
    "bench",
    "docs",
    "examples",
    "pyproject.toml",
    "README.md",
    "openapi.json",
    "Makefile",
)


@dataclass(frozen=True, slots=True)
class Mutant:
    """`old` occurs once in the file and is replaced by `new`; one of the selected tests must fail.

    `tests` has the names of test files, without folders, and options of pytest.
    """

    guard: str
    file: str
    old: str
    new: str
    tests: str


MUTANTS = (
    # The second factor
    Mutant("a step is consumed once", "service/factors/totp_authenticators.py", " AND last_step < $1{guards}", "{guards}", "test_races.py -k consuming"),
    Mutant("a code belongs to the credential version of its enrolment", "service/factors/totp_authenticators.py", " AND epoch = $4", " AND $4 > -1", "test_account_races.py test_enrolment.py"),
    Mutant("an attempt is charged before the comparison", "service/factors/totp_authenticators.py", "await attempts.charge(self._database, \"totp_authenticators\", factor.id, now)", "1", "test_budgets.py"),
    Mutant("a factor waits after failures", "service/factors/attempts.py", "waits_until <= $2 AND ", "", "test_budgets.py"),
    Mutant("fifty failures in thirty days", "service/factors/attempts.py", " AND {_FIFTIETH} <= $4", " AND $4 <> ''", "test_budgets.py"),
    Mutant("six ASCII digits", "service/factors/totp.py", "[0-9]{6}", r"\d{6}", "test_totp.py"),
    Mutant("five codes a pending token", "service/storage/throttle.py", "CODES_PER_PENDING_TOKEN = 5", "CODES_PER_PENDING_TOKEN = 500", "test_budgets.py"),
    Mutant("a confirmed factor is not replaced", "service/factors/totp_authenticators.py", "DELETE FROM totp_authenticators WHERE user_id = $1 AND confirmed_at IS NULL", "DELETE FROM totp_authenticators WHERE user_id = $1", "test_factors.py"),
    Mutant("a used pending token is invalid", "service/login/pending.py", "NOT EXISTS (SELECT 1 FROM sessions WHERE pending_jti = $3)", "$3 <> ''", "test_login.py test_budgets.py"),
    Mutant("a pending token is accepted once", "service/sessions/sessions.py", " ON CONFLICT (pending_jti) DO NOTHING", "", "test_races.py -k two_valid_codes"),
    Mutant("a pending token is bound to the credential version", "service/login/pending.py", "users.epoch = $2 AND ", "$2 > -1 AND ", "test_enrolment.py test_sessions.py"),
    Mutant("a recovery code is used once", "service/factors/recovery_codes.py", " AND used_at IS NULL\",\n            unix_seconds(now)", "\",\n            unix_seconds(now)", "test_recovery_codes.py"),
    Mutant("recovery codes have a budget", "service/factors/recovery_codes.py", "await attempts.charge(self._database, \"recovery_budgets\", user.id, act.at)", "1", "test_recovery_codes.py test_budgets.py"),
    Mutant("the QR code is unavailable once confirmed", "service/login/enrolment.py", " or not pending.is_enrolment:", ":", "test_enrolment.py"),
    Mutant("only the owner gets the QR code", "service/login/enrolment.py", "not _is_named(user, username) or ", "", "test_enrolment.py"),
    Mutant("disabling consumes the code", "service/accounts/own_factors.py", "changed is None or not await kind.consume(transaction, changed, checked, now)", "changed is None", "test_races.py test_enrolment.py"),
    # Authenticators, devices, recovery, administration
    Mutant("every authenticator is charged", "service/factors/totp_authenticators.py", "        for factor in factors:\n            try:", "        for factor in factors[:1]:\n            try:", "test_factors.py"),
    Mutant("a success refunds every authenticator", "service/factors/totp_authenticators.py", "for other in checked.charged_ids:", "for other in ():", "test_factors.py"),
    Mutant("a reported step is consumed", "service/factors/totp_authenticators.py", "SET last_step = $1, told_at = $2 WHERE", "SET told_at = $2 WHERE", "test_factors.py"),
    Mutant("two codes in a row realign", "service/factors/totp_authenticators.py", "AND last_step = $2 AND told_at >= $3", "AND last_step >= $2 - 5 AND told_at >= $3", "test_factors.py"),
    Mutant("a clock realigns within 90 s only", "service/factors/totp_authenticators.py", "REALIGNED_WITHIN = timedelta(seconds=90)", "REALIGNED_WITHIN = timedelta(days=1)", "test_factors.py"),
    Mutant("ten steps out of step", "service/factors/totp.py", "MAX_DRIFT_STEPS = 10", "MAX_DRIFT_STEPS = 20", "test_factors.py"),
    Mutant("an addition needs a fresh second factor", "service/login/enrolment.py", "        check_fresh(access, self._clock())\n", "        pass\n", "test_factors.py"),
    Mutant("the last authenticator cannot be removed", "service/accounts/own_factors.py", "if not await mfa.is_confirmed(transaction, user.id):", "if False:", "test_factors.py"),
    Mutant("a removal ends sessions", "service/accounts/own_factors.py", "if removed.was_confirmed:", "if False:", "test_factors.py"),
    Mutant("users remove only their own authenticators", "service/factors/totp_authenticators.py", "DELETE FROM totp_authenticators WHERE user_id = $1 AND id = $2", "DELETE FROM totp_authenticators WHERE $1 <> '' AND id = $2", "test_factors.py"),
    Mutant("five authenticators", "service/factors/totp_authenticators.py", "MAX_AUTHENTICATORS = 5", "MAX_AUTHENTICATORS = 50", "test_factors.py"),
    Mutant("a recovery code confirms nothing", "service/login/login.py", "if pending.is_enrolment and kind.enrolment_error is not None:", "if False:", "test_factors.py"),
    Mutant("an unconfirmed authenticator opens no session", "service/factors/totp_authenticators.py", "return [factor for factor in factors if factor.is_confirmed == (user.mfa == \"confirmed\")]", "return factors", "test_factors.py"),
    Mutant("a step-up confirms no authenticator", "service/login/pending.py", "if pending.is_enrolment and isinstance(claims, PendingStepUp):", "if False:", "test_sessions.py -k confirms_nothing"),
    Mutant("a step-up token shows no secret", "service/login/enrolment.py", "if isinstance(pending.claims, PendingStepUp):", "if False:", "test_sessions.py test_token_kinds.py"),
    Mutant("a device token belongs to a credential version", "service/users/devices.py", "return (self.user_id, self.credential_version) == (user.id, user.credential_version)", "return self.user_id == user.id", "test_devices.py"),
    Mutant("a device token belongs to one user", "service/users/devices.py", "return (self.user_id, self.credential_version) == (user.id, user.credential_version)", "return self.credential_version == user.credential_version", "test_devices.py"),
    Mutant("a device token is valid for ninety days", "service/tokens/device.py", "if unix_seconds(now) >= claims.issued_at + LIFETIME.total_seconds():", "if False:", "test_devices.py"),
    Mutant("a device replaces the code for the configured days only", "service/users/devices.py", " < self.proved_at + period.total_seconds()", "", "test_devices.py"),
    Mutant("a login without a code does not extend that period", "service/login/admission.py", "0 if known is None else known.proved_at", "unix_seconds(now)", "test_devices.py"),
    Mutant("a device has a rate limit", "service/storage/throttle.py", "Bucket(f\"device:{{{device_id}}}\", self._login)", "Bucket(f\"device:{{{device_id}}}\", NO_LIMIT)", "test_devices.py"),
    Mutant("a recovery has a delay", "service/login/recovery.py", "not due_at <= unix_seconds(now) < due_at", "not unix_seconds(now) < due_at", "test_recovery.py"),
    Mutant("a recovery expires", "service/login/recovery.py", " < due_at + WINDOW.total_seconds()", "", "test_recovery.py"),
    Mutant("a second factor cancels a recovery", "service/login/admission.py", "if \"mfa\" in amr and user.recovery_due_at is not None:", "if False:", "test_recovery.py"),
    Mutant("a new password cancels a recovery", "service/users/users.py", "COALESCE($3, password_hash), recovery_due_at = NULL", "COALESCE($3, password_hash)", "test_recovery.py"),
    Mutant("a recovery ends sessions", "service/login/recovery.py", "await sessions.end_all(transaction, user.id, reason=\"recovery\", now=now)", "pass", "test_recovery.py"),
    Mutant("a recovery can be switched off", "service/login/recovery.py", "if self._delay is None or due_at is None or", "if due_at is None or", "test_recovery.py"),
    Mutant("no recovery without a webhook", "service/settings.py", "return DEFAULT_RECOVERY_DELAY if self.webhook_url is not None else None", "return DEFAULT_RECOVERY_DELAY", "test_recovery.py -k is_off_without"),
    # E-mail addresses, forgotten passwords, invitations
    Mutant("an address names one account", "service/users/addresses.py", " WHERE addresses.user_id = excluded.user_id", "", "test_addresses.py"),
    Mutant("an address that is a username is not released", "service/users/addresses.py", "        \" AND NOT EXISTS (SELECT 1 FROM users WHERE users.id = $2 AND users.username = $1)\",\n", "", "test_addresses.py"),
    Mutant("a username and an address share one rate limit", "service/users/credentials.py", "username = username if user is None else user.username", "pass", "test_addresses.py -k rate_limit"),
    Mutant("an unknown address costs as many reads as a known one", "service/users/credentials.py", "await users.find(self._database, username), True", "await users.find(self._database, username), False", "test_addresses.py -k reads"),
    Mutant("an address is claimed when it is confirmed", "service/users/emails.py", "if not await addresses.claim(transaction, address, user.id):", "if False:", "test_emails.py"),
    Mutant("a confirmation is of the newest request", "service/users/emails.py", "AND new_email_at = $3 AND {_ENABLED}", "AND $3 > 0 AND {_ENABLED}", "test_emails.py"),
    Mutant("a disabled user confirms no address", "service/users/emails.py", "AND new_email_at = $3 AND {_ENABLED}", "AND new_email_at = $3", "test_emails.py"),
    Mutant("a new password cancels a requested address", "service/users/users.py", "        \" new_email = CASE WHEN $3 IS NULL THEN new_email END\"\n", "        \" new_email = CASE WHEN $3 = '' THEN NULL ELSE new_email END\"\n", "test_emails.py -k new_password"),
    Mutant("a change of address needs the password", "service/accounts/emails.py", "proved = await self._credentials.prove(access.username, password, caller)", "proved = await self._credentials.prove(access.username, \"correct horse battery staple\", caller)", "test_emails.py -k needs_the_password"),
    Mutant("changes of address are limited", "service/accounts/emails.py", "if requested > MAX_REQUESTS:", "if False:", "test_emails.py -k five"),
    Mutant("a cancellation is of one address", "service/accounts/emails.py", " or digest_address(user.new_email) != link.address_digest", "", "test_emails.py"),
    Mutant("removing an address needs a fresh second factor", "service/accounts/fresh.py", "check_fresh(access, self._clock())", "pass", "test_emails.py -k removing"),
    Mutant("a reset needs the credential version of its link", "service/users/users.py", "WHERE id = $1 AND epoch = $2 AND disabled_at IS NULL RETURNING {COLUMNS}\",\n        user_id, credential_version, password_hash", "WHERE id = $1 AND $2 > -1 AND disabled_at IS NULL RETURNING {COLUMNS}\",\n        user_id, credential_version, password_hash", "test_password_reset.py"),
    Mutant("a reset ends every session", "service/accounts/password_resets.py", "await sessions.end_all(transaction, user.id, reason=\"password_reset\", now=now)", "pass", "test_password_reset.py"),
    Mutant("a reset revokes device tokens", "service/users/users.py", "UPDATE users SET epoch = epoch + 1, password_hash = $3, password_reset_at", "UPDATE users SET password_hash = $3, password_reset_at", "test_password_reset.py"),
    Mutant("a password that was reset starts no recovery", "service/login/recovery.py", " and proved.user.password_reset_at is None", "", "test_password_reset.py -k recovery"),
    Mutant("a login with the second factor makes the password count again", "service/login/admission.py", "await users.forget_reset(transaction, user.id)", "pass", "test_password_reset.py -k recovery"),
    Mutant("a reset cancels a recovery", "service/users/users.py", "password_reset_at = $4, recovery_due_at = NULL,", "password_reset_at = $4,", "test_password_reset.py -k cancels"),
    Mutant("a user gets three links an hour", "service/accounts/password_resets.py", "if sent < MAX_REQUESTS:", "if True:", "test_password_reset.py -k three"),
    Mutant("requests for links are counted one after the other", "service/accounts/password_resets.py", "if not await users.lock_if_current(transaction, user):", "if False:", "test_password_reset.py -k three"),
    Mutant("a network requests ten links an hour", "service/accounts/password_resets.py", "await self._throttle.charge_password_reset(caller, now)", "pass", "test_password_reset.py -k ten"),
    Mutant("requests for links are answered after the same time", "service/web/password_reset.py", "await asyncio.sleep(answer_at - loop.time())", "pass", "test_password_reset.py -k reveals"),
    Mutant("a disabled user gets no link", "service/accounts/password_resets.py", "user.email is None or user.is_disabled", "user.email is None", "test_password_reset.py -k reveals"),
    Mutant("an invitation is used once", "service/users/invitations.py", "WHERE id = $1 AND used_at IS NULL AND expires_at > $2\"", "WHERE id = $1 AND expires_at > $2\"", "test_invitations.py -k twenty"),
    Mutant("sign-up by invitation needs one", "service/web/signup.py", "if signup == \"invited\" and body.invitation is None:", "if False:", "test_invitations.py"),
    Mutant("an invitation is for one address", "service/accounts/invitations.py", "if email is not None and found.email is not None and fold(email) != fold(found.email):", "if False:", "test_invitations.py -k address"),
    Mutant("a used invitation is not revoked", "service/users/invitations.py", "DELETE FROM invitations WHERE id = $1 AND used_at IS NULL", "DELETE FROM invitations WHERE id = $1", "test_invitations.py -k revoked"),
    Mutant("the last administrator does not delete their own account", "service/users/administrators.py", "if _enabled_administrators(roles) == {user_id}:", "if False:", "test_deletion.py -k last_administrator"),
    Mutant("closed sign-up creates no account", "service/web/signup.py", "ClosedSignup if signup == \"closed\" else StrictJsonRoute", "StrictJsonRoute", "test_closed_signup.py"),
    Mutant("a password set by an operator ends sessions", "service/accounts/administration.py", "await sessions.end_all(transaction, user.id, reason=\"password_changed\", now=now)", "pass", "test_administration.py -k new_password"),
    Mutant("a password set by an operator increments the credential version", "service/users/users.py", "SET epoch = epoch + 1, recovery_due_at = NULL, password_reset_at = NULL", "SET recovery_due_at = NULL, password_reset_at = NULL", "test_administration.py -k new_password"),
    Mutant("a cursor belongs to its filters", "service/storage/page.py", "row=filters).decode()", "row=\"\").decode()", "test_pages.py"),
    Mutant("a cursor belongs to its list", "service/storage/page.py", "return self._sealer.open(sealed, purpose=_PURPOSE, table=self._name", "return self._sealer.open(sealed, purpose=_PURPOSE, table=\"accounts\"", "test_pages.py"),
    Mutant("a page that is full has a successor", "service/accounts/administration.py", "(len(found) == limit or number == read)", "number == read", "test_pages.py"),
    Mutant("a page reads a bounded number of rows", "service/accounts/administration.py", "else ROWS_PER_PAGE", "else 10**9", "test_pages.py"),
    Mutant("a page has a limit", "service/accounts/administration.py", "if not 1 <= limit <= MAX_PAGE_SIZE:", "if False:", "test_pages.py"),
    Mutant("a deleted user is not found", "service/users/users.py", "NOT_DELETED = \"users.deleted_at IS NULL\"", "NOT_DELETED = \"1 = 1\"", "test_administration.py"),
    Mutant("a deletion ends sessions", "service/accounts/deletions.py", "await sessions.end_all(transaction, user_id, reason=\"deleted\", now=act.at)", "pass", "test_administration.py"),
    Mutant("a deletion removes the hash", "service/users/users.py", "password_hash = '', roles = '',", "roles = '',", "test_administration.py"),
    Mutant("removing the second factor removes recovery codes", "service/factors/recovery_codes.py", "        await remove_all(transaction, user_id)\n        return 0", "        return 0", "test_recovery_codes.py test_recovery.py test_administration.py"),
    Mutant("a deletion removes the factors", "service/accounts/deletions.py", "    await second_factors.remove_all(transaction, user_id)\n", "", "test_administration.py"),
    Mutant("a deletion is not taken back by a login", "service/users/credentials.py", "if for_restore else not", "if for_restore or user.is_disabled else not", "test_deletion.py -k logs_out"),
    Mutant("a restore is for a scheduled deletion only", "service/users/credentials.py", "deletions.is_restorable(user, now) if", "True if", "test_deletion.py -k alike"),
    Mutant("the password alone restores no account with a second factor", "service/login/restore.py", "if user.mfa != \"off\":", "if False:", "test_deletion.py -k alone"),
    Mutant("only the pending token of a restore restores", "service/login/restore.py", "user, now, restores=True)", "user, now)", "test_deletion.py -k alone"),
    Mutant("the policy applies to a restore", "service/login/restore.py", "await self._enrolment.start_if_required(proved.user, now, for_restore=True)", "proved.user", "test_deletion.py -k policy"),
    Mutant("an operator who disables is not undone", "service/users/users.py", "SET disabled_at = $1, deletion_requested_at = NULL,", "SET disabled_at = $1,", "test_deletion.py -k undone"),
    Mutant("enabling cancels the deletion", "service/users/users.py", " deletion_due_at = CASE WHEN CAST($1 AS BIGINT) IS NOT NULL THEN deletion_due_at END", " deletion_due_at = COALESCE($1, deletion_due_at)", "test_deletion.py -k undone"),
    Mutant("a due account is not restored with a pending token", "service/users/deletions.py", " AND users.deletion_due_at > $4\"", " AND $4 > 0\"", "test_deletion.py -k void"),
    Mutant("a due account is not restored with the password", "service/users/deletions.py", " and unix_seconds(now) < due_at", "", "test_deletion.py -k due_account"),
    Mutant("no account is removed before it is due", "service/users/deletions.py", "deletion_due_at <= $1 AND disabled_at", "deletion_due_at > $1 - 10000000 AND disabled_at", "test_deletion.py -k due_account"),
    Mutant("two replicas remove an account once", "service/accounts/deletions.py", "if await deletions.lock_if_due(transaction, user_id, now):", "if True:", "test_deletion.py -k replicas"),
    Mutant("a request for deletion ends sessions", "service/accounts/deletions.py", "await sessions.end_all(transaction, user.id, reason=\"deletion_scheduled\", now=now)", "pass", "test_deletion.py -k ended"),
    Mutant("a request for deletion revokes pending tokens", "service/users/deletions.py", "UPDATE users SET epoch = epoch + 1, recovery_due_at = NULL, disabled_at = $3", "UPDATE users SET recovery_due_at = NULL, disabled_at = $3", "test_deletion.py -k 'code or alone'"),
    Mutant("a deleted account leaves no address in its invitation", "service/accounts/deletions.py", "    await invitations.remove_address(transaction, user_id)\n", "", "test_deletion.py -k invitation"),
    Mutant("an export needs a fresh second factor", "service/accounts/exports.py", "            check_fresh(access, now)", "            pass", "test_export.py -k fresh"),
    Mutant("an export needs a recent login", "service/accounts/exports.py", "elif unix_seconds(now) - access.auth_time > FRESH_AUTHENTICATION_SECONDS:", "elif False:", "test_export.py -k recent"),
    Mutant("the guard deletes due accounts", "service/operations/restoring.py", "deleted = await remove_due_accounts()", "deleted = 0", "test_restoring.py -k due"),
    Mutant("a scheduled deletion survives an export and import", "service/accounts/moving.py", "user.is_disabled and not user.is_disabled_by_user", "user.is_disabled", "test_deletion_moving.py"),
    Mutant("a name of two accounts is refused", "service/accounts/administration.py", "if len(found) > 1:", "if False:", "test_administration.py -k username_or_its_sub"),
    Mutant("a secret in the place of a field name is not repeated", "service/web/problems.py", "if len(name) <= MAX_FIELD_NAME_LENGTH and _FIELD_NAME.fullmatch(name):", "if len(name) <= MAX_FIELD_NAME_LENGTH:", "test_hostile_input.py -k could_be_a_secret"),
    Mutant("no other site puts the account page into a frame", "service/web/account_page/routes.py", " frame-ancestors 'none';", "", "test_account_page.py -k policy"),
    Mutant("the account page accepts no strings as code", "service/web/account_page/routes.py", " require-trusted-types-for 'script'; ", " ", "test_account_page.py -k policy"),
    Mutant("the name of the service is text on the account page", "service/web/account_page/files.py", "name=html.escape(name),", "name=name,", "test_account_page.py -k name_is_text"),
    Mutant("the configuration of the account page is one attribute", "service/web/account_page/files.py", "config=html.escape(json.dumps(config, separators=(\",\", \":\"))),", "config=json.dumps(config, separators=(\",\", \":\")),", "test_account_page.py -k name_is_text"),
    Mutant("the style of the account page loads nothing", "service/web/account_page/branding.py", "        if unknown:\n", "        if False:\n", "test_account_page.py -k custom_properties"),
    Mutant("the style of the account page is nothing but variables", "service/web/account_page/branding.py", "    if rest:\n", "    if False:\n", "test_account_page.py -k custom_properties"),
    Mutant("files of another version are not kept", "service/web/account_page/routes.py", "FOR_EVER if folder == page.folder else CHECK_AGAIN", "FOR_EVER", "test_account_page.py -k loads_each_version"),
    Mutant("the account page returns to named origins only", "service/web/account_page/static/return-to.js", "config.returnOrigins.includes(url.origin) && ", "", "test_account_page_under_stress.py -k named_origins"),
    Mutant("the token of a link leaves the URL", "service/web/account_page/static/router.js", "  history.replaceState(null, \"\", `#${found[1]}`);\n", "", "test_account_page_in_chromium.py -k whole_story"),
    Mutant("a code is sent by itself once", "service/web/account_page/static/code-step.js", "    isSent = true;\n", "", "test_account_page_under_stress.py -k wrong_code"),
    Mutant("the account page keeps only names that log in", "service/web/account_page/static/views/login.js", "      username = typed.trim();\n", "      rememberUsername(typed, { keeps: true });\n", "test_account_page_between_users.py -k is_remembered"),
    Mutant("the back button shows no account after a logout", "service/web/account_page/static/main.js", "  if (persisted && ", "  if (false && ", "test_account_page_between_users.py -k back_button"),
    Mutant("the account page follows another user of the browser", "service/web/account_page/static/main.js", " && needs === \"user\") location.reload();", " && needs === \"\") location.reload();", "test_account_page_between_users.py -k follows_another"),
    Mutant("a dialog ends with its session", "service/web/account_page/static/main.js", "    closeDialogs();\n", "", "test_account_page_between_users.py -k ends_with"),
    Mutant("the next user of a tab does not see recovery codes", "service/web/account_page/static/main.js", "  if (user === null) forgetCodes();\n", "", "test_account_page_between_users.py -k not_saved"),
    Mutant("the page at /docs loads only its own files", "service/web/docs.py", "script-src 'self';", "script-src *;", "test_docs_page.py"),
    Mutant("an unsupported processor is reported", "service/__main__.py", "if obstacle is not None:", "if False:", "test_processor.py -k before_importing"),
    Mutant("a repeated request does not extend a recovery", "service/users/users.py", "(recovery_due_at IS NULL OR recovery_due_at <= $4)", "$4 > -1", "test_recovery.py"),
    Mutant("repeatedly refused codes are an event", "service/messages/events.py", "if failures % REFUSALS_PER_EVENT != 0:", "if True:", "test_events.py"),
    Mutant("an event names the actor", "service/messages/events.py", "details.get(\"by\", act.actor.by(user_id))", "details.get(\"by\")", "test_actors.py"),
    Mutant("an act on the account of another is told from the user's own", "service/origin.py", " if self != Actor(\"user\", user_id or \"\")", " if self.kind == \"client\"", "test_actors.py"),
    Mutant("a user's own act names nobody", "service/origin.py", " if self != Actor(\"user\", user_id or \"\")", "", "test_actors.py"),
    Mutant("only some events have the address", "service/messages/events.py", "act.address if event in EVENTS_WITH_ADDRESS else None", "act.address", "test_actors.py"),
    Mutant("an account that a command adds names the operator", "service/cli/users.py", "caller=None, by=OPERATOR)", "caller=None)", "test_cli.py -k operator"),
    Mutant("the removal of a client is an event", "service/sessions/registration.py", "if is_removed:", "if False:", "test_clients.py"),
    Mutant("a registration that is refused is no event", "service/sessions/registration.py", "if secret is not None:\n                details", "if True:\n                details", "test_clients.py"),
    Mutant("the id and the scopes of a client are checked", "service/sessions/registration.py", "clients.check_id(client_id), clients.check_scopes(scopes)", "client_id, scopes", "test_clients.py"),
    Mutant("the overlap of two secrets has a limit", "service/sessions/registration.py", "if not 0 <= overlap_hours <= MAX_OVERLAP_HOURS:", "if False:", "test_clients.py"),
    Mutant("the log line of an event about no user has no sub", "service/messages/events.py", "{} if user_id is None else {\"sub\": user_id}", "{\"sub\": user_id}", "test_clients.py"),
    Mutant("users see only their own events", "service/messages/events.py", "FROM events WHERE user_id = $1 ORDER", "FROM events WHERE $1 <> '' ORDER", "test_events.py"),
    Mutant("events keep their order", "service/messages/outbox.py", " AND (p.event_id < o.event_id OR p.id < o.id))", " AND 1 = 0)", "test_webhook.py -k order"),
    Mutant("mail needs STARTTLS", "service/messages/mail_smtp.py", "elif server.username is not None or not server.is_on_loopback:", "elif False:", "test_mail.py -k clear"),
    Mutant("the mail server's certificate is verified", "service/messages/mail_smtp.py", "await asyncio.to_thread(ssl.create_default_context)", "ssl._create_unverified_context()", "test_mail.py -k untrusted"),
    Mutant("an expired message is not sent", "service/messages/contents.py", "if unix_seconds(now) >= message.occurred_at + lifetime.total_seconds():", "if False:", "test_messages.py test_mail.py -k expire"),
    Mutant("an expired invitation is not sent", "service/messages/contents.py", "if unix_seconds(now) >= row[\"expires_at\"]:", "if False:", "test_messages.py -k invitation"),
    Mutant("a used invitation is not sent", "service/messages/contents.py", "if row is None or row[\"used_at\"] is not None:", "if row is None:", "test_messages.py -k invitation"),
    Mutant("the notice of a new address goes to the former one", "service/messages/contents.py", "row[\"new_email\"] if kind is MessageKind.EMAIL_CONFIRMATION else row[\"email\"]", "row[\"new_email\"] or row[\"email\"]", "test_messages.py -k change_of_address"),
    Mutant("a link of a reset is not sent after a new password", "service/messages/contents.py", "if kind is MessageKind.PASSWORD_RESET and await self._has_new_password(message):", "if False:", "test_messages.py -k after_a_new"),
    Mutant("a link goes to the present address only", "service/messages/contents.py", "return None if address == (message.address or address) else Drop(\"superseded\")", "return None", "test_messages.py -k superseded"),
    Mutant("a superseded confirmation is not sent", "service/messages/contents.py", "row[\"new_email_at\"] != message.occurred_at", "row[\"new_email_at\"] is None", "test_messages.py -k superseded"),
    Mutant("a disabled user gets no reset", "service/messages/contents.py", "if kind is MessageKind.PASSWORD_RESET and row[\"disabled_at\"] is not None:", "if False:", "test_messages.py -k superseded"),
    Mutant("of two new logins one is reported", "service/messages/contents.py", " OR (o.created_at = s.created_at AND o.id < s.id)", " OR (o.created_at = s.created_at AND o.id <> s.id)", "test_messages.py -k one_second"),
    Mutant("a permanent refusal is dropped", "service/messages/mail_smtp.py", "if refusal.status is not None and 500 <= refusal.status < 600", "if refusal.status is not None and 600 <= refusal.status", "test_mail.py -k permanent"),
    Mutant("a notice goes to the address of its event", "service/messages/contents.py", "            to=address,\n", "            to=row[\"email\"] or address,\n", "test_messages.py -k had"),
    Mutant("the former address gets a notice of a change", "service/messages/kinds.py", "        EventName.EMAIL_CHANGED: (MessageKind.EMAIL_CHANGED,),\n", "", "test_emails.py -k notices"),
    Mutant("an unconfirmed address holds up no notice", "service/messages/outbox.py", " AND coalesce(p.address = o.address, TRUE)", "", "test_mail.py -k unconfirmed"),
    Mutant("chosen texts are on one line", "service/messages/templates.py", "\" \" if category in {\"Cc\", \"Zl\", \"Zp\", \"Zs\"} else character", "character", "test_messages.py -k hostile"),
    Mutant("HTML is escaped", "service/messages/templates.py", "name.endswith(\".html\")", "name.endswith(\".htm\")", "test_messages.py -k \"hostile or operators\""),
    Mutant("each transport has its lease", "service/messages/lease.py", " WHERE transport = $5 AND (holder", " WHERE id = 1 AND $5 <> '' AND (holder", "test_mail.py -k replicas"),
    Mutant("messages are private files", "service/messages/mail_files.py", "os.O_EXCL, 0o600)", "os.O_EXCL, 0o644)", "test_messages.py -k no_link"),
    Mutant("the order is that of the events", "service/messages/outbox.py", "p.event_id < o.event_id", "p.id < o.id", "test_outbox.py -k order"),
    Mutant("an event is settled after a second", "service/messages/settling.py", " if seen.at <= moment - SETTLE_SECONDS]", "]", "test_webhook.py -k known"),
    Mutant("an event is settled when earlier transactions have ended", "service/messages/settling.py", "if seen.outlasts <= running.oldest or", "if True or", "test_settling.py"),
    Mutant("an event outlasts the transactions of its time only", "service/messages/settling.py", "            if seen.outlasts is None:\n", "            if True:\n", "test_settling.py -k keeps"),
    Mutant("no transaction is waited for without an end", "service/messages/settling.py", " or seen.at <= moment - LONGEST_TRANSACTION_SECONDS", "", "test_settling.py -k longer"),
    Mutant("only what is settled is delivered", "service/messages/delivery.py", "up_to_event=settled", "up_to_event=waiting.newest_event", "test_webhook.py -k slow"),
    Mutant("due events of the version before are migrated", "service/storage/migrations/versions/0007_outbox.py", " WHERE due_at IS NOT NULL ORDER BY id", " WHERE due_at IS NOT NULL AND attempts < 2 ORDER BY id", "test_previous_version.py -k would_have"),
    Mutant("the times of due events are migrated", "service/storage/migrations/versions/0007_outbox.py", "id, occurred_at, due_at, attempts FROM events", "id, occurred_at, occurred_at, attempts FROM events", "test_previous_version.py -k attempts"),
    Mutant("events of a replica of the version before are due", "service/storage/migrations/versions/0007_outbox.py", "ON events WHEN NEW.due_at IS NOT NULL", "ON events WHEN NEW.due_at < 0", "test_previous_version.py -k replica_of_before"),
    Mutant("no event is written while due events are migrated", "service/storage/migrations/versions/0007_outbox.py", "LOCK TABLE users, factors, events IN ACCESS EXCLUSIVE MODE", "SELECT 1", "test_previous_version.py -k during"),
    Mutant("the trigger has the rights of the owner", "service/storage/migrations/versions/0007_outbox.py", "SECURITY DEFINER SET search_path FROM CURRENT ", "", "test_previous_version.py -k rights"),
    Mutant("without a webhook nothing is due", "service/messages/events.py", "if self._is_delivered:", "if True:", "test_webhook.py -k without"),
    Mutant("a transport delivers what is its own", "service/messages/outbox.py", "WHERE o.transport = $1 AND", "WHERE $1 <> '' AND", "test_outbox.py -k once_for_each"),
    Mutant("deleting an account removes the details of its events", "service/accounts/deletions.py", "    await remove_details(transaction, user_id)\n", "", "test_outbox.py -k audit_trail"),
    Mutant("a due event keeps its details", "service/messages/events.py", " AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.event_id = events.id)", "", "test_outbox.py -k whole"),
    Mutant("the last delivery removes the details", "service/messages/delivery.py", "if message.event == EventName.USER_DELETED and", "if False and", "test_outbox.py -k whole"),
    Mutant("one replica delivers the events", "service/messages/lease.py", "(holder = $1 OR holds_until <= $3 OR holds_until > $4)", "$3 > -1 AND $4 > -1", "test_webhook.py -k replica"),
    # Passwords and users
    Mutant("the dummy hash costs as much as a real one", "service/users/passwords.py", "$m={cost.memory_kib},", "$m={8 * cost.lanes},", "test_passwords.py -k dummy"),
    Mutant("an unknown user's password is compared with a dummy hash", "service/users/passwords.py", "self._argon2.verify(password, self.dummy_hash)\n                return False", "return False", "test_passwords.py -k unknown_user"),
    Mutant("a password without a second factor needs more characters", "service/users/password_policy.py", "if len(password) < needed:", "if False:", "test_password_lengths.py"),
    Mutant("a second factor makes fewer characters enough", "service/users/password_policy.py", "if has_second_factor or self.mfa.applies_to(roles) else self.alone", "if self.mfa.applies_to(roles) else self.alone", "test_password_lengths.py"),
    Mutant("a required second factor makes fewer characters enough", "service/users/password_policy.py", "if has_second_factor or self.mfa.applies_to(roles) else self.alone", "if has_second_factor else self.alone", "test_password_lengths.py"),
    Mutant("the second factor of the user decides the length", "service/users/password_policy.py", "has_second_factor=user.mfa != \"off\"", "has_second_factor=True", "test_password_lengths.py"),
    Mutant("a begun enrolment counts for the length", "service/users/password_policy.py", "has_second_factor=user.mfa != \"off\"", "has_second_factor=user.mfa == \"confirmed\"", "test_password_lengths.py -k beginning"),
    Mutant("sign-up without a second factor needs more characters", "service/accounts/signup.py", "has_second_factor=enable_mfa", "has_second_factor=True", "test_password_lengths.py"),
    Mutant("the length alone is not less than with a second factor", "service/settings.py", "if self.min_length_alone < self.password_min_length:", "if False:", "test_wrong_values.py -k ALONE"),
    Mutant("a leaked password is refused at sign-up", "service/accounts/signup.py", "await self._password_policy.check_breached(password)", "pass", "test_breached_passwords.py -k wherever"),
    Mutant("a leaked password is refused at a change", "service/accounts/accounts.py", "await self._password_policy.check_breached(new)", "pass", "test_breached_passwords.py -k wherever"),
    Mutant("a leaked password is refused from an operator", "service/accounts/administration.py", "await self._password_policy.check_breached(password)", "pass", "test_breached_passwords.py -k wherever"),
    Mutant("a check without an answer fails open", "service/users/breached/check.py", "            self._report_failure(failure.reason)\n            return", "            self._report_failure(failure.reason)\n            found = True", "test_breached_passwords.py -k counted"),
    Mutant("a check that takes too long fails open", "service/users/breached/check.py", "            self._report_failure(\"timeout\")\n            return", "            self._report_failure(\"timeout\")\n            found = True", "test_breached_passwords.py -k within_a_second"),
    Mutant("a check has a deadline", "service/users/breached/check.py", "asyncio.timeout(DEADLINE_SECONDS)", "asyncio.timeout(None)", "test_breached_passwords.py -k byte_by_byte"),
    Mutant("a failed check is counted", "service/users/breached/check.py", "metrics.BREACHED_CHECKS.labels(\"failed\").inc()", "pass", "test_breached_passwords.py -k counted"),
    Mutant("only five digits of the hash leave", "service/users/breached/range_service.py", "PREFIX_DIGITS = 5", "PREFIX_DIGITS = 40", "test_breached_passwords.py -k digits"),
    Mutant("the password as typed is compared too", "service/users/breached/check.py", " or (typed != password and await self._has(typed))", "", "test_breached_passwords.py -k typed"),
    Mutant("padding is no hit", "service/users/breached/range_service.py", "match[1].upper() == suffix and int(match[2]) > 0", "match[1].upper() == suffix", "test_breached_passwords.py -k padding"),
    Mutant("another status is no miss", "service/users/breached/range_service.py", "if response.status_code != 200:", "if False:", "test_breached_passwords.py -k any_other_answer"),
    Mutant("the answer of a range service is bounded", "service/users/breached/range_service.py", "if len(answer) > MAX_ANSWER_BYTES:", "if False:", "test_breached_passwords.py -k any_other_answer"),
    Mutant("another answer than a range is no miss", "service/users/breached/range_service.py", "elif line.strip():", "elif False:", "test_breached_passwords.py -k any_other_answer"),
    Mutant("the log has no line of the HTTP client", "service/telemetry/log.py", "for name in (\"httpx2\", \"httpcore2\"):", "for name in ():", "test_breached_passwords.py -k server"),
    Mutant("a truncated list stops the start", "service/users/breached/list_file.py", "if entries == 0 or size != HEADER.size + entries * DIGEST_BYTES:", "if False:", "test_password_lists.py -k whole_list"),
    Mutant("a list that is truncated in use is noticed", "service/users/breached/list_file.py", "if len(found) != size:", "if False:", "test_breached_passwords.py -k truncated"),
    Mutant("a search finds each entry", "service/users/breached/list_file.py", "if self._read(middle, 1) <= wanted:", "if self._read(middle, 1) < wanted:", "test_breached_passwords.py -k millisecond"),
    Mutant("a list has each password once", "service/users/breached/list_building.py", "if digest != last:", "if True:", "test_password_lists.py -k sorted"),
    Mutant("runs are merged", "service/users/breached/list_building.py", "if runs and chunk[0] >= last:", "if runs:", "test_password_lists.py -k sorted"),
    Mutant("a draft does not stay", "service/users/breached/list_building.py", "draft.unlink(missing_ok=True)", "pass", "test_password_lists.py -k wrong_line"),
    Mutant("an input is not overwritten", "service/users/breached/list_building.py", "if any(output.exists() and file.exists() and file.samefile(output) for file in inputs):", "if False:", "test_password_lists.py -k cannot_be_used"),
    Mutant("a failed commit leaves nothing open", "service/storage/database_sqlite.py", "            _rollback(connection)\n            raise", "            raise", "test_database.py -k nothing_open"),
    Mutant("only an imported hash is tried with the password as typed", "service/users/passwords.py", "if typed == password or not self.is_outdated(hashed):", "if typed == password:", "test_imported_users.py -k made_here"),
    Mutant("an imported hash is marked", "service/accounts/moving.py", "IMPORTED + record.password_hash", "record.password_hash", "test_imported_users.py -k typed_opens"),
    Mutant("a digest has its full length", "service/users/foreign_hashes.py", "if len(digest) != hashlib.new(algorithm).digest_size:", "if False:", "test_foreign_hashes.py"),
    Mutant("the cost of an imported scrypt hash is limited", "service/users/foreign_hashes.py", " or n * r * p > 1 << 22:", ":", "test_foreign_hashes.py -k cost_of_a_hash"),
    Mutant("importing a weak secret needs a flag", "service/accounts/import_records.py", "if totp.is_weak(canonical) and not allow_weak:", "if False:", "test_import_files.py"),
    Mutant("a user's imported secrets differ", "service/accounts/import_records.py", "if len({_hmac_key(secret) for _name, secret in self.factors}) < len(self.factors):", "if False:", "test_moving.py -k one_secret"),
    Mutant("an enrolment replaces weak secrets", "service/login/enrolment.py", "for name in await authenticators.remove_weak(transaction, user.id, replacement=authenticator.id):", "for name in ():", "test_imported_users.py -k next_enrolment"),
    Mutant("an imported sub is no client id", "service/users/users.py", "is_claimed and not await subjects.claim_subject(transaction, user_id):", "False:", "test_imported_users.py -k at_once"),
    Mutant("a client id is no imported sub", "service/sessions/clients.py", "if not await subjects.claim_subject(transaction, client_id):", "if False:", "test_imported_users.py -k at_once"),
    Mutant("a disabled user is refused", "service/users/credentials.py", "else not user.is_disabled)", "else True)", "test_account_races.py test_cli.py test_moving.py"),
    Mutant("a request rejected by the queue reads no store", "service/users/credentials.py", "            self._passwords.ensure_capacity(origin)\n", "            pass\n", "test_login.py -k shed"),
    Mutant("one request of a kind begins at a time", "service/web/fair_start.py", "        if self._is_busy:\n", "        if False:\n", "test_fair_start.py"),
    Mutant("each kind of request begins in turn", "service/web/fair_start.py", "self._kinds.get(_first_segment(path), self._elsewhere)", "self._elsewhere", "test_fair_start.py"),
    Mutant("a transaction sets its isolation level", "service/storage/database_postgresql.py", "BEGIN ISOLATION LEVEL READ COMMITTED", "BEGIN", "test_postgresql.py -k isolation_level"),
    Mutant("a value on the console is quoted", "service/telemetry/log.py", "if text.isprintable() and not any(", "if True or not any(", "test_log.py -k console"),
    Mutant("a name shows what it has", "service/factors/names.py", "if not all(one.isprintable() or", "if not all(True or", "test_factors.py -k must_have_a_name"),
    Mutant("the hashing queue is bounded", "service/users/passwords.py", "len(self._taken) >= self._room and not", "False and not", "test_passwords.py"),
    Mutant("an unknown Redis option stops the start", "service/redis_url.py", "        if name not in OPTIONS:\n", "        if False:\n", "test_redis_url.py"),
    Mutant("a TLS option needs TLS", "service/redis_url.py", "        if name in _TLS and not has_tls:\n", "        if False:\n", "test_redis_url.py"),
    Mutant("a refusal repeats no password", "service/redis_url.py", " or \"@\" in tail:", ":", "test_redis_url.py -k repeats_no_password"),
    Mutant("Sentinels have credentials of their own", "service/storage/redis_client.py", "**_credentials(address.sentinel_credentials)", "**_credentials(address.credentials)", "test_redis_as_found.py -k works"),
    Mutant("the master's database number is used", "service/storage/redis_client.py", ", db=address.database), clients", "), clients", "test_redis_as_found.py -k works"),
    Mutant("a Redis that refuses scripts is not ready", "service/storage/ephemeral_redis.py", "            await self._run([*self._charge_calls([_PROBE_BUCKET], _PROBE_TIME), *self._refund_calls([_PROBE_BUCKET])])\n", "", "test_redis_as_found.py -k cannot_be_used"),
    Mutant("each cause is logged once", "service/storage/ephemeral.py", "if error.kind not in self._reported:", "if True:", "test_redis_as_found.py -k readiness"),
    Mutant("a refused charge is refunded", "service/storage/ephemeral.py", "        if counter.count <= 0:\n            del self._counters[key]\n", "", "test_ephemeral.py -k leaves_nothing"),
    Mutant("the address limits", "service/storage/throttle.py", "Bucket(f\"address:{{{origin}}}\", self._login_address),", "", "test_budgets.py test_callers.py"),
    Mutant("the address is that of the peer", "service/web/caller.py", "if self._trusted and self._is_trusted(address):", "if True:", "test_callers.py"),
    # Tokens
    Mutant("a token has a type", "service/tokens/jwt_codec.py", "decoded[\"header\"].get(\"typ\") != self._typ or ", "", "test_tokens.py"),
    Mutant("a shorter lifetime applies to older tokens", "service/tokens/access.py", "min(whole(claims[\"exp\"]), whole(claims[\"iat\"]) + int(self.ttl.total_seconds()))", "whole(claims[\"exp\"])", "test_verify.py -k shorter_lifetime"),
    Mutant("a token expires", "service/tokens/jwt_codec.py", " < whole(claims[\"exp\"])", "", "test_tokens.py"),
    Mutant("the MAC of a refresh token is verified", "service/tokens/opaque.py", "if not any(hmac.compare_digest", "if False and not any(hmac.compare_digest", "test_sessions.py"),
    Mutant("a refresh token has one spelling", "service/tokens/opaque.py", "if token != encode(prefix, data):", "if False:", "test_sessions.py"),
    Mutant("an opaque token has the length of its kind", "service/tokens/opaque.py", "if len(body) not in self._body_bytes:\n            raise InvalidToken", "if False:\n            raise InvalidToken", "test_opaque_tokens.py"),
    Mutant("a replaced key verifies", "service/tokens/opaque.py", "for key in self._keys):", "for key in self._keys[:1]):", "test_opaque_tokens.py"),
    Mutant("an authenticator is added within a session", "service/tokens/pending.py", "            raise TypeError  # an authenticator is added within a session", "            pass", "test_tokens.py"),
    Mutant("each purpose of a link has its own key", "service/tokens/links.py", "sealer.derive(f\"link:{purpose}\")", "sealer.derive(\"link\")", "test_links.py"),
    Mutant("a link expires", "service/tokens/links.py", " <= unix_seconds(now) < claims.expires_at:", " <= unix_seconds(now):", "test_links.py"),
    Mutant("a link is not valid before it is issued", "service/tokens/links.py", "if not claims.issued_at - LEEWAY_SECONDS <= unix_seconds(now) <", "if not unix_seconds(now) <", "test_links.py"),
    Mutant("a link with other claims is refused", "service/tokens/links.py", "if len(values) != len(types) or not all(map(isinstance, values, types)):", "if False:", "test_links.py"),
    Mutant("a client's token is not accepted as a user's", "service/tokens/access.py", "if claims[\"client_id\"] != claims[\"sub\"]:", "if False:", "test_tokens.py"),
    Mutant("a sealed value stays in its row", "service/storage/sealing.py", "\"\\x1f\".join((purpose, table, row))", "\"\\x1f\".join((purpose, table))", "test_sealing.py"),
    # Sessions
    Mutant("a generation is replaced once", "service/sessions/sessions.py", "id = $1 AND generation = $3 AND {_IS_LIVE}", "id = $1 AND $3 > -1 AND {_IS_LIVE}", "test_sessions.py"),
    Mutant("the grace period ends", "service/sessions/sessions.py", " AND replaced_at >= $4 AND {_IS_LIVE}", " AND $4 > -1 AND {_IS_LIVE}", "test_sessions.py"),
    Mutant("reuse of a refresh token ends the session", "service/sessions/sessions.py", "(generation > $3 OR (generation = $3 AND replaced_at < $4))", "$3 > $4", "test_sessions.py"),
    Mutant("an ended session is refused", "service/sessions/sessions.py", "_IS_LIVE = \"ended_at IS NULL AND ", "_IS_LIVE = \"", "test_sessions.py"),
    Mutant("an expired session is refused", "service/sessions/sessions.py", "_IS_LIVE = \"ended_at IS NULL AND expires_at > $2\"", "_IS_LIVE = \"ended_at IS NULL AND $2 > -1\"", "test_sessions.py"),
    Mutant("a session lives a month at most", "service/sessions/sessions.py", "CASE WHEN ends_at < $4 THEN ends_at ELSE $4 END", "$4", "test_sessions.py"),
    Mutant("a step-up raises once", "service/sessions/sessions.py", "id = $3 AND raised = $4 AND", "id = $3 AND $4 > -1 AND", "test_sessions.py"),
    Mutant("a disabled user cannot refresh", "service/sessions/sessions.py", "_USER_IS_ENABLED = \"EXISTS (SELECT 1 FROM users WHERE users.id = sessions.user_id AND users.disabled_at IS NULL)\"", "_USER_IS_ENABLED = \"1 = 1\"", "test_sessions.py"),
    Mutant("expired sessions are ended too", "service/sessions/sessions.py", "WHERE user_id = $3 AND ended_at IS NULL AND id <> $4", "WHERE user_id = $3 AND ended_at IS NULL AND expires_at > $1 AND id <> $4", "test_sessions.py"),
    Mutant("an expired session is revoked too", "service/sessions/sessions.py", "ended_reason = $3 WHERE id = $1 AND ended_at IS NULL", "ended_reason = $3 WHERE id = $1 AND ended_at IS NULL AND expires_at > $2", "test_sessions.py"),
    Mutant("the row of an ended session is kept", "service/sessions/sessions.py", "\" AND ((ended_at IS NULL AND expires_at <= $3) OR ended_at <= $4)\"", "\" AND (expires_at <= $3 OR ended_at <= $4)\"", "test_housekeeping.py"),
    Mutant("no token outlives its session", "service/tokens/access.py", "min(int(self.ttl.total_seconds()), max(1, expires_at - unix_seconds(now)))", "int(self.ttl.total_seconds())", "test_sessions.py"),
    Mutant("only its owner ends a session", "service/sessions/sessions.py", "user_id = COALESCE($4, user_id)", "COALESCE($4, user_id) = COALESCE($4, user_id)", "test_sessions.py"),
    Mutant("a password change ends sessions", "service/accounts/accounts.py", "await sessions.end_all(transaction, user.id, reason=\"password_changed\", now=now, except_sid=access.sid)", "pass", "test_sessions.py"),
    Mutant("/verify refuses ended sessions", "service/sessions/bearers.py", "if access.sid in self._ended or ", "if ", "test_verify.py"),
    Mutant("a new password ends sessions by the time after the hash", "service/accounts/accounts.py", "now = self._clock()  # the second hash took time", "now = proved.at", "test_sessions.py -k when"),
    Mutant("disabling ends sessions by the time after the hash", "service/users/credentials.py", "Proved(user, self._clock(), device)", "Proved(user, now, device)", "test_sessions.py -k when"),
    Mutant("a recovery ends sessions by the time after the hash", "service/users/credentials.py", "Proved(user, self._clock(), device)", "Proved(user, now, device)", "test_recovery.py"),
    Mutant("/verify forgets no end when the clock jumps", "service/sessions/bearers.py", "min(max(now - self._read_at, timedelta(0)), DEEP_INTERVAL)", "now - self._read_at", "test_verify.py -k clock"),
    Mutant("/verify reads the ends that it missed", "service/sessions/bearers.py", " or now < self._read_at:", ":", "test_verify.py -k clock"),
    Mutant("/verify checks the demanded level", "service/sessions/bearers.py", "if is_weak or is_old:", "if is_old:", "test_verify.py"),
    Mutant("/verify checks the demanded max_age", "service/sessions/bearers.py", "if is_weak or is_old:", "if is_weak:", "test_verify.py"),
    Mutant("a cached token expires", "service/sessions/bearers.py", " and unix_seconds(now) < access.expires_at", "", "test_verify.py"),
    Mutant("an operation with a bearer refuses requests without one", "service/web/bearers.py", "proved = await authenticate(require_bearer(request))", "proved = await authenticate(request.headers.get(\"authorization\", \"x\"))", "test_bearers.py -k every_operation"),
    Mutant("claims never come from the body", "service/web/edge.py", "field.annotation in _CLAIMS", "field.annotation in ()", "test_bearers.py -k decorator"),
    Mutant("an operation that needs a fresh factor says so", "service/web/bearers.py", "self._bearer_auth.authenticate_recent", "self._bearer_auth.authenticate", "test_recovery_codes.py"),
    Mutant("a scope grants only itself", "service/sessions/bearers.py", "if scope not in scopes:", "if False:", "test_bearers.py -k scope"),
    Mutant("the token of a removed client is refused", "service/sessions/bearers.py", "if not await clients.could_own_token(self._database, access.client_id, scopes, issued_at=access.issued_at):", "if False:", "test_bearers.py -k removed"),
    Mutant("a fresh second factor is required", "service/sessions/bearers.py", "if access.acr != \"aal2\" or unix_seconds(now) - access.auth_time > FRESH_AUTHENTICATION_SECONDS:", "if False:", "test_recovery_codes.py"),
    # Static claims
    Mutant("a registered claim is no static claim", "service/static_claims.py", "    if name in REGISTERED:\n", "    if False:\n", "test_static_claims.py -k meaning"),
    Mutant("a claim of Keyturn's own is no static claim", "service/static_claims.py", "if name in OWN or name == \"keyturn\" or name.startswith(\"keyturn:\"):", "if False:", "test_static_claims.py -k meaning"),
    Mutant("static claims fit into a kilobyte", "service/static_claims.py", "if len(encode(checked)) > MAX_BYTES:", "if False:", "test_static_claims.py -k kilobyte"),
    Mutant("static claims are checked at the edge", "service/web/admin_fields.py", "    AfterValidator(check_claims),\n", "", "test_static_claims.py -k cannot_be"),
    Mutant("imported static claims are checked", "service/accounts/import_records.py", "claims: Annotated[dict[str, Any], AfterValidator(check_claims)]", "claims: dict[str, Any]", "test_static_claims.py -k go_with"),
    Mutant("a setting names no registered claim", "service/values.py", "        check_name(word)\n", "", "test_static_claims.py -k stops"),
    Mutant("only named static claims are in tokens", "service/tokens/access.py", "for name in self._static_claims if name in claims}", "for name in claims}", "test_static_claims.py -k grant"),
    Mutant("a deletion removes the static claims", "service/users/users.py", " claims = '{}',", "", "test_static_claims.py -k go_with"),
    Mutant("true is another static claim than 1", "service/accounts/administration.py", "encode(changes.claims) != encode(user.claims)", "changes.claims != user.claims", "test_static_claims.py -k event"),
    Mutant("a token with all static claims is read", "service/tokens/jwt_codec.py", "MAX_CHARACTERS = 6144", "MAX_CHARACTERS = 4096", "test_static_claims.py -k longest"),
    Mutant("a slash within a sub ends no segment", "service/web/admin_routes.py", "        if b\"%\" not in raw_path:\n", "        if True:\n", "test_admin_users.py -k every_sub"),
    Mutant("a percent sign within a sub is decoded once", "service/web/admin_routes.py", ".replace(\"%\", \"%25\")", "", "test_admin_users.py -k every_sub"),
    Mutant("a login with a code on a known device notifies nobody", "service/login/login.py", "is_known_device=device is not None)", "is_known_device=False)", "test_messages.py -k with_a_code"),
    Mutant("a revocation names the client", "service/sessions/grants.py", "Actor.user(user_id) if client is None else Actor.client(client.id)", "Actor.user(user_id)", "test_services.py -k names_the_client"),
    Mutant("a command reports a list that does not answer", "service/users/breached/check.py", "        self.unanswered += 1", "        pass", "test_breached_passwords.py -k commands"),
    # The operator's policy on second factors
    Mutant("a refresh satisfies the policy", "service/sessions/sessions.py", "generation = $3 AND {_IS_LIVE} AND {_USER_IS_ENABLED}{policy.guard}", "generation = $3 AND {_IS_LIVE} AND {_USER_IS_ENABLED}", "test_policy_sessions.py"),
    Mutant("a repeated refresh satisfies the policy", "service/sessions/sessions.py", " AND replaced_at >= $4 AND {_IS_LIVE} AND {_USER_IS_ENABLED}{policy.guard}", " AND replaced_at >= $4 AND {_IS_LIVE} AND {_USER_IS_ENABLED}", "test_policy_sessions.py -k grace"),
    Mutant("a bearer's session satisfies the policy", "service/sessions/sessions.py", "SELECT {_COLUMNS} FROM sessions WHERE id = $1 AND {_IS_LIVE} AND {_USER_IS_ENABLED}{policy.guard}", "SELECT {_COLUMNS} FROM sessions WHERE id = $1 AND {_IS_LIVE} AND {_USER_IS_ENABLED}", "test_policy_sessions.py -k gateways"),
    Mutant("an active token's session satisfies the policy", "service/sessions/sessions.py", "f\" WHERE id = $1 AND {_IS_LIVE} AND {_USER_IS_ENABLED}{policy.guard}\",\n        sid, unix_seconds(now),\n    )  # fmt: skip\n    if row is None:", "f\" WHERE id = $1 AND {_IS_LIVE} AND {_USER_IS_ENABLED}\",\n        sid, unix_seconds(now),\n    )  # fmt: skip\n    if row is None:", "test_policy_sessions.py -k inactive"),
    Mutant("a refused refresh ends its session", "service/sessions/grants.py", "            if self._policy.is_on:\n", "            if False:\n", "test_policy_sessions.py -k gateways"),
    Mutant("an added role ends noncompliant sessions", "service/accounts/administration.py", "ended = await sessions.end_all_noncompliant(transaction, user.id, policy=self._policy, now=act.at)", "ended = 0", "test_policy_sessions.py -k role"),
    Mutant("a login locks the roles", "service/users/users.py", "disabled_at IS NULL AND roles = $3\"", "disabled_at IS NULL AND $3 <> '-'\"", "test_policy_sessions.py -k between"),
    Mutant("/verify reads the policy's roles", "service/sessions/bearers.py", " or self._policy.refuses(access.acr, access.roles)", "", "test_policy_sessions.py -k without_a_store"),
    Mutant("the tasks in the background begin in turn", "service/operations/housekeeping.py", "_repeat(work, pause, turns=turns)", "_repeat(work, pause)", "test_housekeeping.py"),
    Mutant("the start enforces the policy", "service/operations/housekeeping.py", "        if self._policy.is_on:\n", "        if False:\n", "test_policy_sessions.py -k start"),
    Mutant("a known device may replace the code", "service/users/mfa_policy.py", "            ways.append(mfa.is_confirmed_sql(\"sessions.user_id\"))\n", "            pass\n", "test_policy_sessions.py -k device"),
    Mutant("a device counts only where the policy accepts devices", "service/users/mfa_policy.py", "        if self.accepts_known_devices:\n", "        if True:\n", "test_policy_sessions.py -k device"),
    Mutant("a delay without a unit is refused", "service/durations.py", "if not unit and plain is None:", "if False:", "test_durations.py -k delay"),
    Mutant("a duration has bounds", "service/durations.py", "if not self.least <= number <= self.most:", "if False:", "test_durations.py"),
    Mutant("the digits of a duration are ASCII", "service/durations.py", "0*([0-9]+)", r"0*(\d+)", "test_durations.py"),
    Mutant("a setting in days has whole days", "service/durations.py", "if seconds % UNITS[self.unit]:", "if False:", "test_durations.py"),
    Mutant("a word for all is no role of the policy", "service/values.py", "(EVERYONE, _MEANS_ALL)", "(EVERYONE, set())", "test_policy.py -k no_role"),
    Mutant("a role is compared as a whole word", "service/users/user_roles.py", "f\"% {role.replace('_', '!_')} %\"", "f\"%{role.replace('_', '!_')}%\"", "test_policy_sessions.py -k agree"),
    Mutant("a role is not used as a pattern", "service/users/user_roles.py", "role.replace('_', '!_')", "role", "test_policy_sessions.py -k agree"),
    # Administration by HTTP
    Mutant("a client changes no administrator", "service/users/administrators.py", " or (state is not None and ADMINISTRATOR in state[0])", "", "test_admin_rights.py"),
    Mutant("a client gives nobody the role of administrators", "service/users/administrators.py", "if ADMINISTRATOR in gives or ", "if ", "test_admin_rights.py"),
    Mutant("an act checks the role again", "service/users/administrators.py", "        if actor_id not in enabled:\n            raise Forbidden", "        if False:\n            raise Forbidden", "test_admin_races.py"),
    Mutant("the last administrator stays", "service/users/administrators.py", "if removes and not enabled - {user_id}:", "if False:", "test_admin_rights.py"),
    Mutant("administrators who leave at once are locked together", "service/users/administrators.py", "        ids |= await _find_all(transaction)", "        enabled_now = await _find_all(transaction)\n        if enabled_now - {user_id}:\n            return", "test_admin_races.py"),
    Mutant("an administrator has the role now", "service/sessions/bearers.py", "if not await administrators.is_administrator(self._database, access.sub):", "if \"keyturn-admin\" not in access.roles:", "test_admin_callers.py"),
    Mutant("an administrator proved a second factor", "service/sessions/bearers.py", "elif access.acr != \"aal2\":", "elif False:", "test_admin_callers.py"),
    Mutant("an act of an administrator needs a fresh second factor", "service/sessions/bearers.py", "        if writes:\n            check_fresh(access, self._clock())", "        if False:\n            check_fresh(access, self._clock())", "test_admin_callers.py"),
    Mutant("a client gives no scope of the admin API", "service/sessions/registration.py", "            await _check_right(transaction, by, scopes)\n", "", "test_admin_clients.py"),
    Mutant("a client gets no secret of a client of the admin API", "service/sessions/registration.py", "    if found is not None:\n        _check_scopes(by, found.scopes)", "    pass", "test_admin_clients.py"),
    Mutant("the admin API is off unless it is on", "service/app.py", "if settings.admin_api == \"on\":", "if True:", "test_admin_callers.py -k off"),
    Mutant("an event is read when it has settled", "service/messages/feed.py", "                await sleep(SETTLE_SECONDS)\n", "", "test_admin_events.py"),
    Mutant("a reader of events learns of a restored backup", "service/messages/feed.py", "if after > newest:", "if False:", "test_admin_events.py"),
    Mutant("acts of others do not count against the user", "service/messages/events.py", "\n            \" AND details NOT LIKE '%\\\"by\\\": %'\",", ",", "test_admin_users.py -k password_reset"),
    Mutant("a search by address finds the confirmed one only", "service/users/listing.py", " AND LOWER(users.email) = $1 AND", " AND $1 <> '' AND", "test_admin_users.py -k filter"),
    # Services and keys
    Mutant("a client gets only its scopes", "service/sessions/grants.py", "if not set(requested) <= set(client.scopes):", "if False:", "test_services.py"),
    Mutant("only clients may introspect", "service/web/tokens.py", "        token = require_parameter(form, \"token\")\n        await require_client(request, form)\n", "        token = require_parameter(form, \"token\")\n", "test_services.py"),
    Mutant("a replaced client secret expires", "service/sessions/clients.py", "CASE WHEN previous_until > $2 THEN previous_digest END", "CASE WHEN $2 > -1 THEN previous_digest END", "test_services.py"),
    Mutant("a revoked key is not published", "service/tokens/keys.py", "FROM signing_keys WHERE revoked_at IS NULL\"\n            \" AND ", "FROM signing_keys WHERE \"\n            \"", "test_keys.py -k revo"),
    Mutant("a key is published before it signs", "service/tokens/keys.py", "max(ends, now + lead)", "max(ends, now)", "test_keys.py -k downtime"),
    Mutant("a client does not accept tokens issued before its registration", "service/sessions/clients.py", "WHERE id = $1 AND created_at <= $2", "WHERE id = $1 AND $2 > -1", "test_services.py"),
    # The doctor
    Mutant("the doctor rotates no key", "service/tokens/keys.py", "while self._rotates and await self._rotate_if_due(now, rows):", "while await self._rotate_if_due(now, rows):", "test_doctor_reads.py -k changes_no_row"),
    Mutant("the doctor leaves no WAL", "service/storage/database_sqlite.py", "'' if has_wal else '&immutable=1'", "''", "test_doctor_reads.py -k changes_no_row"),
    Mutant("the doctor makes no master secret", "service/operations/doctor/__init__.py", "Sealer(settings.find_master_secrets())", "Sealer(settings.read_master_secrets())", "test_doctor_reads.py -k not_made"),
    Mutant("a check that fails is a finding", "service/operations/doctor/__init__.py", "        except Exception as error:", "        except LookupError as error:", "test_doctor_reads.py -k other_checks_run"),
    Mutant("the size of a key set is limited", "service/operations/doctor/exposure.py", "if len(body) > MAX_KEY_SET_BYTES:", "if False:", "test_doctor_reads.py -k endless"),
    # The edge
    Mutant("a preflight is never answered for /verify", "service/web/cors.py", "return path.startswith(\"/verify\")", "return False", "test_verify.py"),
    Mutant("other origins get no CORS headers", "service/web/cors.py", "if origin not in self._origins:", "if origin is None:", "test_cors.py -k other_origins"),
    Mutant("a preflight allows named headers only", "service/web/cors.py", "all(map(self._is_allowed, requested))", "True", "test_cors.py -k tracing"),
    Mutant("a script can read a 500", "service/web/edge.py", "headers += self._cors.answer_headers(scope[\"path\"], _origin(scope))", "pass", "test_cors.py -k defect"),
    Mutant("an origin with a wildcard is refused", "service/values.py", "if \"*\" in text:", "if False:", "test_cors.py -k stops"),
    Mutant("an origin's host is ASCII", "service/values.py", "    if not name.isascii():\n", "    name = name.encode(\"idna\").decode()\n    if False:\n", "test_cors.py -k not_ascii"),
    Mutant("a foreign origin uses no cookie", "service/web/cookie_session.py", "if any(origin not in self._origins for origin in request.headers.getlist(\"origin\")):", "if False:", "test_cookie_session.py -k foreign_origin"),
    Mutant("the cookie needs an origin", "service/web/cookie_session.py", "if len(request.headers.getlist(\"origin\")) != 1:", "if False:", "test_cookie_session.py -k without_an_origin"),
    Mutant("the cookie needs the header", "service/web/tokens.py", "if uses_cookie and \"refresh_token\" not in form:", "if \"refresh_token\" not in form:", "test_cookie_session.py -k without_the_header"),
    Mutant("two cookies of one name are refused", "service/web/cookie_session.py", "if len(found) > 1:", "if False:", "test_cookie_session.py -k two_cookies"),
    Mutant("an unknown value of Keyturn-Session is refused", "service/web/cookie_session.py", "if values != [\"cookie\"]:", "if False:", "test_cookie_session.py -k another_value"),
    Mutant("the name of the refresh cookie is compared exactly", "service/web/cookie_session.py", "if equals and given == name:", "if equals and given.lower() == name.lower():", "test_cookie_session.py -k other_cookies"),
    Mutant("no script reads the refresh cookie", "service/web/cookie_session.py", "; HttpOnly", "", "test_cookie_session.py -k login_sets"),
    Mutant("a login in a cookie has no refresh token in its body", "service/web/cookie_session.py", "return replace(tokens, refresh_token=None)", "return tokens", "test_cookie_session.py -k login_sets"),
    Mutant("a refresh by the cookie has no refresh token in its body", "service/web/tokens.py", "replace(granted, refresh_token=None)", "granted", "test_cookie_session.py -k exchanged"),
    Mutant("the refresh cookie expires with its session", "service/sessions/issuing.py", "live.session.expires_at - unix_seconds(now)", "7 * 86400", "test_cookie_session.py -k lives_as_long"),
    Mutant("a logout removes the refresh cookie", "service/web/account.py", "cookie_sessions.clear(answer)", "pass", "test_cookie_session.py -k logout"),
    Mutant("credentials are allowed for named origins", "service/web/cors.py", "            (b\"access-control-allow-credentials\", b\"true\"),\n", "", "test_cookie_session.py -k allowed_origin"),
    Mutant("a malformed entry stops the search", "service/web/caller.py", "break  # the client may have forged everything before a malformed entry", "continue  # what stands before a malformed entry", "test_callers.py -k malformed"),
    Mutant("a client cannot hide a proxy's element", "service/web/caller.py", "comma = value.rfind(\",\", max(0, end - MAX_ELEMENT_LENGTH), comma)", "comma = value.find(\",\", 0, comma)", "test_callers.py -k chooses"),
    Mutant("an excluded format is not sent", "service/web/mfa.py", "return best if weight_of(best) > 0 else None", "return best", "test_enrolment.py -k weighed"),
    Mutant("a drawing ends before its thread", "service/web/qrcodes.py", "await asyncio.wait(self._drawings)", "self._thread.shutdown(cancel_futures=True)", "test_qrcodes.py"),
    Mutant("the drawing thread ends with the service", "service/app.py", "        await web.qr_renderer.close()\n", "", "test_qrcodes.py"),
    Mutant("the SVG has a background", "service/web/qrcodes.py", "image_factory=SvgPathFillImage", "image_factory=qrcode.image.svg.SvgPathImage", "test_qrcodes.py -k dark"),
    Mutant("a recovery code has few confusable characters", "service/factors/recovery_codes.py", "MAX_CONFUSABLE = 8", "MAX_CONFUSABLE = 16", "test_typed_text.py -k readings"),
    Mutant("white space in a code is ignored", "service/web/bodies.py", "normalised = without_separators(otp)", "normalised = otp", "test_typed_text.py -k other_spellings"),
    Mutant("white space around a username is ignored", "service/users/users.py", "    username = trim(username)\n", "", "test_typed_text.py -k username"),
    Mutant("labels distinguish authenticators", "service/login/enrolment.py", "if is_another or authenticator.name != DEFAULT_NAME else None", "if authenticator.name != DEFAULT_NAME else None", "test_factors.py -k label"),
    Mutant("a relying service does not hang", "examples/relying_service.py", ", timeout=2", "", "test_examples.py -k hang"),
    Mutant("Caddy removes headers with mixed separators", "examples/Caddyfile", "-X-Auth*", "-X-Auth-*", "test_examples.py -k accepts_valid"),
    Mutant("Caddy removes headers with the other mixed separators", "examples/Caddyfile", "-X_Auth*", "-X_Auth_*", "test_examples.py -k accepts_valid"),
    Mutant("a JSON object has no duplicate member", "service/web/edge.py", "if len(members) != len(pairs):", "if False:", "test_hostile_input.py"),
    Mutant("a restore sets a credential version that no token has", "service/operations/restoring.py", "CASE WHEN epoch < $3 THEN $3 ELSE epoch + 1 END", "epoch + 1 + 0 * $3", "test_restoring.py -k credential_versions"),
    Mutant("a restored recovery is cancelled", "service/operations/restoring.py", "ELSE epoch + 1 END, recovery_due_at = NULL", "ELSE epoch + 1 END", "test_restoring.py -k cancelled"),
    Mutant("a restored step is consumed", "service/operations/restoring.py", "THEN $3 ELSE last_step END", "THEN last_step + 0 * $3 ELSE last_step END", "test_restoring.py -k code_used"),
    Mutant("a restored session is ended", "service/operations/restoring.py", "AND user_id <= $2 AND ended_at IS NULL LIMIT", "AND user_id <= $2 AND ended_at IS NOT NULL LIMIT", "test_restoring.py -k stays_ended"),
    Mutant("a restored recovery code is void", "service/operations/restoring.py", "if not keeps_recovery_codes:", "if keeps_recovery_codes:", "test_restoring.py -k recovery_code"),
    Mutant("a restored signing key is revoked", "service/operations/restoring.py", "revoked = await keys.revoke_all(now)", "revoked = 1", "test_restoring.py -k from_after"),
    Mutant("a restored enrolment is void", "service/operations/restoring.py", "f\" AND {mfa.is_confirmed_sql(", "f\" AND NOT {mfa.is_confirmed_sql(", "test_restoring.py -k enrolment"),
    Mutant("the last answer closes the connection", "service/web/wire.py", "        if self._is_draining:\n            self.cycle.keep_alive = False", "        if self._is_draining:\n            pass", "test_wire.py -k on_its_way"),
    Mutant("a slow body is waited for during a drain", "service/web/wire.py", "            self._set_timer()  # a request has begun", "            pass  # a request has begun", "test_draining.py -k slow_body"),
    Mutant("an idle connection may send one last request", "service/web/wire.py", "        if not self._unanswered:\n            self._set_timer()", "        if not self._unanswered:\n            self.transport.close()", "test_wire.py -k on_its_way"),
    Mutant("the service is not ready after SIGTERM", "service/web/server.py", "{STOPPING_KEY: True, DRAINING_KEY: True}", "{DRAINING_KEY: True}", "test_draining.py -k keeps_serving"),
    Mutant("a connection accepted by the kernel is served", "service/web/server.py", "        await self._wait(lambda: SETTLE_SECONDS)\n        # The event loop does not run between the last accept and the close.\n        accepted = accept_all(sockets or ())", "        accepted: list[socket.socket] = []", "test_draining.py -k kernel"),
    Mutant("an idle connection is kept for its own time", "service/web/wire.py", "return float(self.timeout_keep_alive)", "return DEADLINE_SECONDS", "test_wire.py -k ten_seconds"),
    Mutant("a claim is released after an outage", "service/factors/totp_authenticators.py", "            await self._ephemeral.release(checked.claim)\n", "", "test_login.py -k given_again"),
    Mutant("a connection that outlives its caller is kept", "service/storage/postgresql_pool.py", "            self._idle.append((connection, asyncio.get_running_loop().time()))\n", "            connection.terminate()\n", "test_postgresql_pool.py"),
    Mutant("a large hash occupies several places", "service/users/hash_memory.py", "units = min(max(1, -(-kib // self._unit_kib)), self._units)", "units = 1", "test_machine.py"),
    Mutant("a refused request has no effect", "service/web/wire.py", "if not cycle.disconnected:", "if True:", "test_wire.py -k not_done"),
    Mutant("a body has at most 16 KiB", "service/web/edge.py", "if len(body) > MAX_BODY_BYTES:", "if False:", "test_hostile_input.py test_wire.py"),
    Mutant("no demand of /verify is ignored", "service/web/verify.py", " or not demands.keys() <= {\"acr\", \"max_age\"}", "", "test_verify.py"),
    # Workers
    Mutant("a worker ignores signals to the group", "service/web/workers.py", "        signal.signal(number, signal.SIG_IGN)\n    signal", "        signal.signal(number, signal.SIG_DFL)\n    signal", "test_workers.py -k signals_to_a_worker"),
    Mutant("workers announce the drain before they stop", "service/web/workers.py", "            worker.announce_drain()\n        began", "            pass\n        began", "test_workers.py -k whole_group"),
    Mutant("a second interrupt ends the workers", "service/web/workers.py", "                            worker.stop(at_once=True)", "                            worker.stop()", "test_workers.py -k second_interrupt"),
    Mutant("a failed replacement leaves the other workers", "service/web/workers.py", "        if not self._has_started:", "        if True:", "test_workers.py -k schema"),
    Mutant("failed starts are retried with a back-off", "service/web/workers.py", "            self._start_at = time.monotonic() + retry", "            self._back_off = 0", "test_workers.py -k schema"),
    Mutant("a failure at the first start ends the command", "service/web/workers.py", "        if not self._has_started:", "        if False:", "test_workers.py -k first_start"),
    Mutant("a failed restart keeps the old workers", "service/web/workers.py", "        if self._outdated and len(started) > self._count:", "        if self._outdated and not self._leaving:", "test_workers.py -k sighup_with"),
    Mutant("a failed restart is not repeated", "service/web/workers.py", "        self._outdated.clear()\n", "", "test_workers.py -k sighup_with"),
    Mutant("a worker that imports stops at once", "service/web/workers.py", "            os._exit(0)  # nothing", "            pass  # nothing", "test_workers.py -k sigterm_ends"),
    Mutant("workers stop with their parent", "service/web/workers.py", "            server.stop_without_parent()", "            pass", "test_workers.py -k killed"),
    Mutant("the last worker removes the folder of the metrics", "service/telemetry/metrics.py", "        Path(folder).rmdir()", "        pass", "test_workers.py -k killed"),
    Mutant("a mistake at the start of a worker has no traceback", "service/web/server.py", "            self._error = error  # Starlette", "            pass  # Starlette", "test_workers.py -k schema"),
    # Restores, draining, PostgreSQL
    Mutant("an unknown option of the URL is refused", "service/storage/postgresql_url.py", "        _check_name(name, position, follows_password=follows_password)\n", "", "test_postgresql_url.py"),
    Mutant("an ignored libpq variable is reported", "service/storage/postgresql_url.py", "        if environment.get(variable) and option not in given:", "        if False:", "test_postgresql_url.py"),
    Mutant("verify-full compares the name", "service/storage/postgresql_tls.py", "context.check_hostname = self.mode == \"verify-full\"", "context.check_hostname = False", "test_postgresql_url.py"),
    Mutant("TLS is never optional where it is required", "service/storage/postgresql_tls.py", ".get(self.mode, [context])", ".get(self.mode, [context, None])", "test_postgresql_url.py"),
    Mutant("readiness checks the database rights", "service/storage/postgresql_checks.py", "if row[\"forbidden\"] is not None:", "if False:", "test_postgresql.py -k revoked"),
    Mutant("a pooler is recognised", "service/storage/database_postgresql.py", "return bool(status == \"SELECT 1\")", "return True", "test_postgresql.py -k pooler"),
    Mutant("each reason is logged once", "service/storage/database.py", "if reason not in self._reported:", "if reason:", "test_postgresql.py -k revoked"),
    Mutant("two revocations do not wait for each other", "service/tokens/keys.py", "UPDATE signing_keys SET serial = serial WHERE serial = (SELECT MIN(serial) FROM signing_keys)", "SELECT 1", "test_keys.py -k revoked_at_once"),
    # The browser
    Mutant("one tab refreshes at a time", "clients/browser/keyturn.js", "(locks ? locks.request(shared, operation) : operation())", "operation()", "test_browser_client.py -k tabs"),
    Mutant("a tab takes the access token of another", "clients/browser/keyturn.js", "        channel.postMessage({ ask: true });\n", "", "test_browser_client.py -k tabs"),
    Mutant("a failed refresh is shared", "clients/browser/keyturn.js", "      if (changes === before && failure?.at >= askedAt) throw failure.error;\n", "", "test_browser_client.py -k tabs"),
    Mutant("a login outlives the refusal of an old session", "clients/browser/keyturn.js", "        if (changes !== before) return current();\n        if (isOver", "        if (isOver", "test_browser_client.py -k tabs"),
    Mutant("a refresh that ends after a logout is ignored", "clients/browser/keyturn.js", "if (changes === before) hold(tokens);", "hold(tokens);", "test_browser_client.py -k tabs"),
    Mutant("a refresh whose answer is lost is repeated", "clients/browser/keyturn.js", "if (pause > 1500 || ", "if (pause > 100 || ", "test_browser_client.py -k tokens"),
    Mutant("a failed refresh is no logout", "clients/browser/keyturn.js", "if (isOver(error)) end();\n        else {", "end();\n        {", "test_browser_client.py -k tokens"),
    Mutant("a token is refreshed before it expires", "clients/browser/keyturn.js", "Math.min(REFRESH_AHEAD, lifetime / 5)", "0", "test_browser_client.py -k tokens"),
    Mutant("few requests carry the refresh cookie", "clients/browser/keyturn.js", "cookie && usesCookie ? \"include\" : \"omit\"", "\"include\"", "test_browser_client.py -k tokens"),
    Mutant("the access token goes to named origins", "clients/browser/keyturn.js", "if (!trusted.has(origin) || ", "if (", "test_browser_client.py -k fetch"),
    Mutant("a body can be sent twice", "clients/browser/keyturn.js", "given.clone()", "given", "test_browser_client.py -k fetch"),
    Mutant("a service that refuses every token causes few refreshes", "clients/browser/keyturn.js", "      if (held?.token === token && !isIssuer && Date.now() - held.at < GRACE) return response;\n", "", "test_browser_client.py -k fetch"),
)  # fmt: skip


def main(word: str = "") -> int:
    """Try all mutants, or those whose guard contains `word`."""
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
        # Validated by content: the tests of a mutant compile only the changed file again.
        by_content = py_compile.PycInvalidationMode.CHECKED_HASH
        for package in ("service", "tests"):
            compileall.compile_dir(tree / package, quiet=1, invalidation_mode=by_content)
        for number, mutant in enumerate(chosen, 1):
            verdict = "killed" if is_killed(tree, mutant) else "SURVIVED"
            if verdict != "killed":
                survivors.append(mutant)
            sys.stdout.write(f"{number:3} of {len(chosen)}  {verdict:9} {mutant.guard}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(survivors)} of {len(chosen)} survived.\n")
    return 1 if survivors else 0


def find_test_file(name: str) -> Path:
    """Return the path of the only test file with this name, relative to the repository."""
    [found] = (REPOSITORY / "tests").rglob(name)
    return found.relative_to(REPOSITORY)


def is_killed(tree: Path, mutant: Mutant) -> bool:
    """Return whether the mutant's tests fail without the guard."""
    file = tree / mutant.file
    before = file.read_text("utf-8")
    if before.count(mutant.old) != 1:
        raise RuntimeError(
            f"{mutant.guard}: the line to change occurs {before.count(mutant.old)} times in {mutant.file}"
        )
    file.write_text(before.replace(mutant.old, mutant.new), "utf-8")
    tests = [str(find_test_file(word)) if word.endswith(".py") else word for word in mutant.tests.split()]
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
