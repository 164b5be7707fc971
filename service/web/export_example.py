"""The example of `GET /me/export` in the OpenAPI document."""

from service.web.admin_examples import Example

_BUDGET = {"failures": 0, "waits_until": 0, "recent_failures": [1795521590]}

EXPORT: Example = {
    "export": {
        "summary": "A user with one session and one event",
        "value": {
            "exported_at": 1795521700,
            "account": {
                "sub": "pZ9yKq2mX0d4Wc1bR7tLhA", "username": "alice", "created_at": 1795521000, "roles": ["admin"],
                "locale": None, "email": "alice@example.com", "new_email": None, "new_email_at": None,
                "claims": {"tenant": "acme"}, "mfa": "confirmed", "credential_version": 1, "recovery_due_at": None,
                "password_reset_at": None, "deletion_due_at": None, "deletion_requested_at": None,
            },
            "authenticators": [
                {
                    "id": "x3Yd0Lr9wUe7Qa5sBn1kTg", "name": "Authenticator app", "created_at": 1795521000,
                    "confirmed_at": 1795521060, "last_used_at": 1795521600, "last_step": 59850720,
                    "offset_steps": 0, "offset_seconds": 0, "out_of_step_reported_at": 0, "weak_secret": False,
                    "budget": _BUDGET,
                }
            ],
            "recovery_codes_left": 1,
            "recovery_code_times": [
                {"created_at": 1795521060, "used_at": 1795521300},
                {"created_at": 1795521060, "used_at": None},
            ],
            "recovery_budget": {"failures": 0, "waits_until": 0, "recent_failures": []},
            "invitation": None,
            "deliveries": [
                {
                    "kind": "new_device", "transport": "mail", "event": "login.admitted",
                    "address": "alice@example.com", "created_at": 1795521600, "due_at": 1795521600, "attempts": 0,
                }
            ],
            "sessions": [
                {
                    "sid": "0mN4vT8sQxGf2yHc6JkRwA", "created_at": 1795521600, "last_used_at": 1795521600,
                    "expires_at": 1796126400, "auth_time": 1795521600, "amr": ["pwd", "otp", "mfa"], "acr": "aal2",
                    "address": "203.0.113.7", "user_agent": "Mozilla/5.0", "ends_at": 1798113600, "generation": 0,
                    "replaced_at": None, "step_ups": 0, "ended_at": None, "ended_reason": None,
                }
            ],
            "events": [
                {
                    "event": "login.admitted", "occurred_at": 1795521600,
                    "details": {
                        "sid": "0mN4vT8sQxGf2yHc6JkRwA", "amr": "pwd otp mfa", "address": "203.0.113.7",
                    },
                }
            ],
        },
    }
}  # fmt: skip
