"""The descriptions of the operations in the OpenAPI document, by operation id.

The texts are in this file and not in the docstrings of the handlers, so that a reader of one file can check that they
use the terms of `docs/reference/glossary.md`. `openapi.py` puts them into the document; `examples.py` has the
examples.
"""

from service.web import admin_descriptions

ABOUT = """\
Keyturn verifies a password and a second factor and issues access tokens (RFC 9068), which other services verify
with the published keys.

**Verification code.** The six digits that an authenticator shows are called the verification code, and the field is
`otp`. Two aliases exist: `/login-2fa` also accepts the field under the name `token`; `/disable-mfa` declares the
field as `token` and also accepts `otp`.

**Problems.** An error is a problem document (RFC 9457). Programs compare `code`; the sentences may change.
`/token`, `/revoke` and `/introspect` answer errors in the form of RFC 6749 section 5.2.

**Requests.** A body is a JSON object of at most 16 KiB; unknown fields are refused. The body of `/token`, `/revoke`
and `/introspect` is a form; unknown parameters are ignored. Times are in epoch seconds.
"""

TAGS = {
    "People": "Operations for users and their frontends: accounts, logins, second factors, sessions.",
    "Administration": "Operations of administration, where `KEYTURN_ADMIN_API` is on. The caller is a registered "
    "client with the scope, or a user with the role `keyturn-admin` who proved a second factor in the session. To "
    "change anything, the user must have proved it within the last 300 s.",
    "Services": "Operations for programs: relying services, gateways, registered clients, monitoring.",
}

DESCRIPTIONS = admin_descriptions.DESCRIPTIONS | {
    "verify": """\
Forward authentication for gateways. Any method is accepted. A valid access token gives 204 and four `X-Auth-`
headers; an invalid one gives 401 and the challenge that the gateway passes on (RFC 6750, RFC 9470). `acr` and
`max_age` demand a stronger or more recent authentication. A request reads no store: each worker keeps a list of
ended sessions and updates it every 0.4 s, so that their tokens are refused within a second. Access tokens of
registered clients are refused.""",
    "token": """\
The token endpoint of OAuth 2.0 (RFC 6749). With `grant_type=refresh_token` it replaces a refresh token and issues an
access token for the session; no client authentication is needed. For ten seconds after a refresh the replaced token
gives the same successor again, as long as that is not replaced too, because two browser tabs may refresh at once; any
other use ends the session. With the header `Keyturn-Session: cookie` a browser sends its refresh token in a cookie
and gets the next one there; if the token in the cookie is less than ten seconds old, the cookie stays as it is. If
the body has a token too, that token is used and the cookie is not read. With `grant_type=client_credentials` a
registered client that has a scope gets an access token of its own.""",
    "revoke": """\
End the session that a refresh token or an access token belongs to (RFC 7009). A token that is not valid gives 200
too. The access token of a registered client cannot be revoked: it belongs to no session.""",
    "introspect": """\
Check in the database whether a token is valid at this moment (RFC 7662). The caller is a registered client.
The answer for a token that is not valid is `{"active": false}`.""",
    "signup": """\
Create an account. With `enable_mfa` the answer has the provisioning URI of an authenticator and a pending token;
`/login-2fa` confirms the authenticator with its first verification code. A 409 `username_taken` reveals that a
username is taken: requests are limited per address, and the log records each of these answers. Where the operator
closed sign-up, every request gives 403. Where sign-up is by invitation, a request without a valid invitation gives
403. An `email` gets a message with a link that confirms it. The answer does not reveal whether another account has
the address, except for the address of an invitation (409 `email_taken`).""",
    "login": """\
The first step of a login. If the account has no second factor, the answer has an access token and a refresh token
(`mfa_required: false`). If it has one, the answer has a pending token (`mfa_required: true`), which is valid for
`/login-2fa`, and for `/qrcode` until the authenticator is confirmed. Where the operator allows it, the `device_token`
of a known device stands in for the second factor. With the header `Keyturn-Session: cookie` the refresh token and the
device token are in cookies instead of the bodies. An unknown user, a wrong password and a disabled account give the
same answer after the same time.""",
    "login2fa": """\
The second step of a login: a pending token with a verification code (`otp`) or with a recovery code. The pending
token is in the body or is the bearer token. A code is accepted once. The first verification code of an
authenticator confirms it; for the first authenticator of an account the answer then has ten recovery codes. With
the pending token of `/step-up` the running session is stepped up and no other is opened.""",
    "stepUp": """\
Get a pending token with which the user proves the second factor again (RFC 9470). `/login-2fa` then steps up the
session of the access token and issues an access token with a new `auth_time`. The refresh token stays as it is.""",
    "qrcode": """\
Show the provisioning URI as a QR code, until the first verification code confirms the authenticator. The pending
token must belong to the user in the path; another user, an unknown user and a confirmed authenticator give the same
404.""",
    "enrolmentSecret": """\
Show the secret and its provisioning URI as JSON, for manual entry in an authenticator app, until the first
verification code confirms the authenticator. The pending token must belong to the user in the path, as at
`/qrcode/{username}`.""",
    "enableMfa": """\
Begin an enrolment. The user repeats the password. From now on the password alone is not enough; `/login-2fa`
with the first verification code confirms the authenticator and ends all earlier sessions. With a confirmed
authenticator the operation adds another one, five at most: this needs a `name` and a second factor proved within
the last 300 s.""",
    "listFactors": "List the user's authenticators, including one that is not confirmed yet.",
    "renameFactor": """\
Give one authenticator another name. Nothing about access changes: no session ends, and the user gets no message. This
needs a second factor proved within the last 300 s.""",
    "removeFactor": """\
Remove one authenticator, but not the last one. If it was confirmed, every other session ends, because somebody else
may have the device. This needs a second factor proved within the last 300 s.""",
    "disableMfa": """\
Turn the second factor off with the password and a current verification code. All authenticators and recovery codes
are removed and every session ends. A wrong password and a wrong code give the same answer.""",
    "replaceRecoveryCodes": """\
Make ten new recovery codes and void the old ones. This needs a second factor proved within the last 300 s.""",
    "askRecovery": """\
Request delayed recovery, for a user who lost every authenticator and recovery code. A login with the password within
seven days after the delay removes the second factor and leads to a new enrolment. A login or a step-up with the
second factor, a change of the password or of factors, `POST /logout` with `everywhere=true`, or `DELETE /recovery`
cancels it. The answer is the same for every username and password. It is 404 where recovery is off, which is the
default without a webhook.""",
    "callOffRecovery": "Cancel a delayed recovery of the account. Without one the answer is 204 too.",
    "me": "Show the account of the access token.",
    "changeMe": """\
Change the language of messages to the user, and show the account. Access to the account does not depend on it, so any
access token of a live session suffices. A change is recorded as the event `user.locale_changed`; to set the
language that the account has already changes nothing. Messages that are not sent yet are in the new language too.""",
    "listSessions": "List the live sessions of the account, 500 at most. The session that was used last comes first.",
    "listEvents": """\
List the events of the account within the last 90 days: a hundred at most, the newest first.
The reference page on events lists their names and details.""",
    "endSession": "End one session of the account. A session of another account and an unknown one give the same "
    "404.",
    "logout": """\
End the session of the access token. With `everywhere=true` all sessions of the account end, and its pending tokens
and device tokens are revoked. With the header `Keyturn-Session: cookie` the answer removes the refresh cookie; the
device cookie stays.""",
    "changePassword": """\
Change the password; the user repeats the current one. Every other session ends, and pending tokens and device tokens
are revoked. The session of the request stays valid.""",
    "deleteMe": """\
Request the deletion of the account. The user repeats the password; a user with a confirmed second factor must also
have proved it within the last 300 s. The account is disabled at once: every session ends, and pending tokens and
device tokens are revoked. It is removed at `deleted_at`, 14 days later by default; until then `/me/restore` takes the
deletion back. The username stays reserved and the `sub` is never reused.""",
    "restoreMe": """\
Take back the deletion of the account before its `deleted_at`, and log in. The proofs and the answers are those of
`/login`: with a second factor the answer is a pending token, and `/login-2fa` with it restores the account and opens
the session. No other pending token does so, and a known device does not stand in for the second factor. An unknown
user, a wrong password, a disabled account and an account without a scheduled deletion give the same answer after the
same time.""",
    "exportMe": """\
Export everything that is stored about the user as one JSON document, without password hashes, secrets and tokens.
A user with a confirmed second factor must have proved it within the last 300 s; any other user must have logged
in within the last 300 s. The document may be large: the service sends its first parts while it still reads the
others from the database. If an error occurs meanwhile, the service closes the connection before the document is
complete.""",
    "changeEmail": """\
Set or change the e-mail address of the account; the user repeats the password. A message with a link goes to the new
address, and `/email/confirm` takes its token. Until then a former address stays, and gets a message with a link that
refuses the change. The answer does not reveal whether another account has the address. It is 404 where the service
sends no messages.""",
    "confirmEmail": """\
Confirm the new address with the token of the link that was sent to it: the address of the account becomes this one.
The token can be used once, within a day. It becomes invalid earlier if an address is requested again, the same or
another, if the new one is refused or removed, or if the password changes. No access token is needed.""",
    "cancelEmail": """\
Refuse a new address, with the token of the link that was sent to the former one. The token is valid for seven days.
It becomes invalid earlier if the new address is confirmed or removed, if an address is requested again, the same or
another, or if the password changes. No access token is needed.""",
    "removeEmail": """\
Remove the address of the account, and cancel a requested change of address. This needs a second factor proved within
the last 300 s; a user without a second factor gives the password in the body instead.""",
    "requestPasswordReset": """\
Send a message with a link for a new password to the user with this username or confirmed address. The answer is the
same for every name, after the same time. A user gets at most three messages an hour. It is 404 where the service
sends no messages.""",
    "resetPassword": """\
Set a new password with the token of a link. Every session of the user ends, their pending tokens and device tokens
are revoked, and the second factor stays: the answer has no token, and the user logs in next. The token can be used
once, within an hour. It becomes invalid earlier if the credential version of the account increases, for example by a
change of the password or of factors. The new password cannot start a delayed recovery until the user has logged in
with the second factor.""",
    "openidConfiguration": """\
The document of `/.well-known/oauth-authorization-server` at the path where many libraries look for it. There are no
ID tokens and no authorization endpoint.""",
    "metadata": "The authorization server metadata (RFC 8414): where the endpoints and the key set are.",
    "jwks": """\
The public keys that verify access tokens (RFC 7517). A verifier may cache the key set for five minutes. A new key is
published some time before it signs: one hour by default.""",
    "metrics": """\
The metrics in the text format of Prometheus. They hold no secret and no username; keep them from the public network
anyway. The reference page on metrics lists them.""",
    "livez": "Whether the process runs. The probe touches no store: restart the process if it fails.",
    "readyz": """\
Whether the replica can serve. 503 means that the database cannot be used or that the process is draining. `degraded`
means that Redis cannot be used: logins work with smaller rate limits.""",
}
