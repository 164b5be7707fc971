"""Keyturn: a password and a second factor go in, short-lived JSON Web Tokens come out.

Read it in this order: `login` (the two turns of the key), `factors` (why a code opens the door once), `tokens` (the
kinds we write), `sessions` (why a refresh token is used once), `throttle` and `ephemeral` (what attempts cost),
`grants` and `bearers` (what programs do with tokens), `policy` (who must have a second factor), `recovery`, `devices`
and `events` (when it goes wrong), `passwords`, `keys`, `sealing`, `database`; then `app`, where the parts meet, and
`web`, where HTTP begins.
"""

VERSION = "0.2.0"
