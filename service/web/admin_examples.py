"""The examples of the operations below `/admin`, by operation id: the part of `examples` for the admin API."""

from typing import Any

Example = dict[str, Any]
"""`{name: {"summary": ..., "value": ...}}`: the `examples` of a media type (OpenAPI 3.1 section 4.8.14)."""

_SUB, _SID = "pZ9yKq2mX0d4Wc1bR7tLhA", "0mN4vT8sQxGf2yHc6JkRwA"
_PAGE = "http://localhost:8000/account"
_USER = {
    "sub": _SUB, "username": "alice", "created_at": 1795521000, "disabled": False, "mfa": "confirmed",
    "roles": ["support"], "deletion_due_at": None,
}  # fmt: skip
_SESSION = {
    "sid": _SID, "created_at": 1795521600, "last_used_at": 1795521600, "expires_at": 1796126400,
    "auth_time": 1795521600, "amr": ["pwd", "otp", "mfa"], "acr": "aal2", "address": "203.0.113.7",
    "user_agent": "Mozilla/5.0",
}  # fmt: skip
_DETAILS = {
    **_USER, "email": "alice@example.com", "new_email": None, "locale": "de", "claims": {"tenant": "acme"},
    "recovery_due_at": None, "recovery_codes_left": 10, "sessions": [_SESSION],
    "authenticators": [
        {
            "id": "x3Yd0Lr9wUe7Qa5sBn1kTg", "name": "Authenticator app", "created_at": 1795521000,
            "confirmed_at": 1795521060, "last_used_at": 1795521600, "offset_seconds": 0,
        }
    ],
}  # fmt: skip
_CREATED = {
    **_DETAILS, "mfa": "asked", "roles": [], "email": None, "locale": None, "claims": {}, "recovery_codes_left": 0,
    "sessions": [],
    "authenticators": [
        {
            "id": "x3Yd0Lr9wUe7Qa5sBn1kTg", "name": "Authenticator", "created_at": 1795521000,
            "confirmed_at": None, "last_used_at": None, "offset_seconds": 0,
        }
    ],
}  # fmt: skip
_INVITATION = {
    "id": "5f0c9d2be1a74c0d8a3b6e9f10273c4d", "email": "alice@example.com", "locale": "de", "roles": ["support"],
    "created_at": 1795521000, "created_by": "client:support-desk", "expires_at": 1796125800, "used_at": None,
    "used_by": None,
}  # fmt: skip
_INVITED = {"invitation": _INVITATION, "link": None}
_CLIENT = {
    "client_id": "billing", "scopes": ["invoices:read"], "created_at": 1795521000, "previous_until": None,
}  # fmt: skip
_EVENT = {
    "id": 4711, "event": "mfa.reset", "occurred_at": 1795521600, "sub": _SUB,
    "details": {"factors": 1, "by": "client:support-desk"},
}  # fmt: skip


def _one(summary: str, value: Any) -> Example:
    return {"example": {"summary": summary, "value": value}}


REQUESTS: dict[str, Example] = {
    "adminCreateUser": {
        "account": {
            "summary": "An account with a password",
            "value": {"username": "alice", "password": "correct horse battery staple", "enable_mfa": True},
        },
        "invitation": {
            "summary": "An invitation",
            "value": {"email": "alice@example.com", "locale": "de", "roles": ["support"]},
        },
    },
    "adminChangeUser": {
        "roles": {"summary": "All roles of the account", "value": {"roles": ["support"]}},
        "disabled": {"summary": "Disable it", "value": {"disabled": True}},
        "email": {"summary": "Remove the address", "value": {"email": None}},
        "claims": {"summary": "All static claims of the account", "value": {"claims": {"tenant": "acme"}}},
        "locale": {"summary": "Write to the user in French", "value": {"locale": "fr"}},
    },
    "adminCreateClient": _one("A client with a scope", {"client_id": "billing", "scopes": ["invoices:read"]}),
    "adminRotateSecret": _one("The previous secret stays valid for a day", {"overlap_hours": 24}),
    "adminInvite": _one("An address and a role", {"email": "alice@example.com", "roles": ["support"]}),
}

ANSWERS: dict[str, Example] = {
    "adminListUsers": _one("The last page", {"users": [_USER], "next_cursor": None}),
    "adminCreateUser": {
        "account": {"summary": "The account exists", "value": {"user": _CREATED, "invited": None}},
        "invitation": {"summary": "A message is on its way", "value": {"user": None, "invited": _INVITED}},
    },
    "adminShowUser": _one("An account", _DETAILS),
    "adminChangeUser": _one("The account after the change", _DETAILS),
    "adminResetPassword": {
        "sent": {"summary": "202: a message is on its way", "value": {"link": None, "expires_at": None}},
        "shown": {
            "summary": "200: hand the link to the user",
            "value": {"link": f"{_PAGE}#reset-password=ktl_WzE3OTU1...", "expires_at": 1795525200},
        },
    },
    "adminListSessions": _one("One session", {"sessions": [_SESSION]}),
    "adminListUserEvents": _one("The last page", {"events": [_EVENT], "next_cursor": None}),
    "adminReadEvents": _one("One event", {"events": [_EVENT], "next_after": 4711}),
    "adminListClients": _one("The last page", {"clients": [_CLIENT], "next_cursor": None}),
    "adminCreateClient": _one("The secret", {"client": _CLIENT, "client_secret": "kts_..."}),
    "adminShowClient": _one("A client", _CLIENT),
    "adminRotateSecret": _one(
        "The new secret", {"client": {**_CLIENT, "previous_until": 1795608000}, "client_secret": "kts_..."}
    ),
    "adminListInvitations": _one("The last page", {"invitations": [_INVITATION], "next_cursor": None}),
    "adminInvite": _one("A message is on its way", _INVITED),
    "adminShowInvitation": _one("An invitation that was not used", _INVITATION),
}
