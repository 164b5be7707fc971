"""Keyturn: an authentication service. It checks a password and a second factor, and issues JSON Web Tokens.

Read the packages in this order: `login` (the two steps of a login), `factors` (why a verification code is accepted
once), `tokens` (the kinds of tokens and the keys), `sessions` (why a refresh token is used once, and what clients and
relying services do with tokens), `users` (the rows of accounts, passwords, known devices), `storage` (databases, rate
limits, sealing), `messages` (events, the webhook, mail), `accounts` and `operations`; then `components`, which joins
the parts, `app` and `web` (HTTP). Most packages say in which order to read their modules.

Imports go one way. A package imports only packages that stand after it in this list: `cli`, `attack`, `app`, `web`,
`components`, `accounts`, `login`, `operations`, `factors`, `sessions`, `messages`, `users`, `tokens`, `context`,
`storage`, `telemetry`. The settings, the errors and the other modules of this folder come last. Where a package must
call one that stands before it, `components` passes it what to call.
"""

VERSION = "0.2.0"
