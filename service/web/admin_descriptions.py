"""The descriptions of the operations below `/admin`, by operation id: a part of those of `descriptions`."""

DESCRIPTIONS = {
    "adminListUsers": """\
List accounts in the order of their usernames: all, or those that match every filter. `username` and `email` use an
index. The other filters are applied to a thousand accounts at a time, so that a page may be short or empty although
more pages follow. Scope: `keyturn:users.read`.""",
    "adminCreateUser": """\
With `username` and `password` the account is made at once; a message asks for the confirmation of an `email`. Without
`username` and `password`, the user with this `email` is invited, as at `POST /admin/invitations`. Scope:
`keyturn:users.write`.""",
    "adminShowUser": """\
Show an account with its authenticators and its live sessions, without secrets. Scope: `keyturn:users.read`.""",
    "adminChangeUser": """\
Make all of the changes in the body, or none. Disabling ends every session and revokes pending tokens and device
tokens. A new `email` gets a message with a link, and is used for nothing before it is confirmed. New `claims` are in
the tokens that are issued from then on, as far as `KEYTURN_CLAIMS` names them. A new `locale` is the language of the
messages that are sent from then on. A change that leaves no enabled user with the role `keyturn-admin` is refused.
Scope: `keyturn:users.write`.""",
    "adminDeleteUser": """\
Delete an account at once and for good. Its username and its `sub` are never given to another account. Scope:
`keyturn:users.write`.""",
    "adminResetPassword": """\
Send the user a link for a new password (202). Where the service sends no messages, or the user has no confirmed
address, the answer has the link (200), to be handed to the user. The rate limits of `/password-reset` do not apply.
Scope: `keyturn:users.write`.""",
    "adminResetMfa": """\
Remove the authenticators and recovery codes of a user who lost them, and end every session. Scope:
`keyturn:users.write`.""",
    "adminListSessions": """\
List the live sessions of a user, 500 at most. The session that was used last comes first.
Scope: `keyturn:users.read`.""",
    "adminEndSessions": """\
End every session of a user, and revoke their pending tokens and device tokens. Scope: `keyturn:users.write`.""",
    "adminEndSession": """\
End one session of a user. A session of another user and an unknown one give the same 404. Scope:
`keyturn:users.write`.""",
    "adminListUserEvents": "List the events of a user within the last 90 days, the newest first. Scope: "
    "`keyturn:events.read`.",
    "adminReadEvents": """\
Read the events of all users and clients in the order of their numbers. A reader that passes `next_after` as `after`
gets every event once: an event is returned when no event with a lower number can be committed any more, which may
take a second, or up to 30 s while another transaction runs. Scope: `keyturn:events.read`.""",
    "adminListClients": "List the registered clients in the order of their ids. Scope: `keyturn:clients`.",
    "adminCreateClient": """\
Register a client and show its secret, only this once. A client cannot register one with a scope that begins with
`keyturn:`. Scope: `keyturn:clients`.""",
    "adminShowClient": "Show a registered client. Scope: `keyturn:clients`.",
    "adminRemoveClient": """\
Remove a client. Its access tokens are refused at `/admin` and inactive at `/introspect` at once. A client cannot
remove one with a scope that begins with `keyturn:`. Scope: `keyturn:clients`.""",
    "adminRotateSecret": """\
Give a client a new secret and show it, only this once. A client cannot get the secret of one with a scope that begins
with `keyturn:`, its own included. Scope: `keyturn:clients`.""",
    "adminListInvitations": """\
List the invitations in the order of their ids. Each is kept for 30 days after it expired, used or not; a revoked one
is deleted at once. Scope: `keyturn:users.read`.""",
    "adminInvite": """\
Make an invitation to sign up. For one address, a message brings the link to it; otherwise, and where the service
sends no messages, the answer has the link. With `KEYTURN_SIGNUP=closed` the invitation cannot be used. Scope:
`keyturn:users.write`.""",
    "adminShowInvitation": "Show an invitation, used or not, without its link. Scope: `keyturn:users.read`.",
    "adminRevokeInvitation": """\
Revoke an invitation that was not used. Its link is of no use any more. Scope: `keyturn:users.write`.""",
}
