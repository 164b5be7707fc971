"""Keyturn: an authentication service. It checks a password and a second factor, and issues JSON Web Tokens.

Read the modules in this order: `login` (the two steps of a login), `factors` (why a verification code is accepted
once), `tokens` (the kinds of tokens), `sessions` (why a refresh token is used once), `throttle` and `ephemeral` (rate
limits), `grants` and `bearers` (what clients and relying services do with tokens), `policy` (which users must have a
second factor), `recovery`, `devices` and `events` (lost factors, known devices, notices), `passwords`, `keys`,
`sealing`, `database`; then `components`, which joins the parts, `app` and `web` (HTTP).
"""

VERSION = "0.2.0"
