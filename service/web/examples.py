"""The examples of the OpenAPI document: requests and answers, by operation id.

`problem_examples.py` has the answers that are problems.
"""

from service.web import admin_examples
from service.web.admin_examples import Example
from service.web.export_example import EXPORT

_SERVER = "http://localhost:8000"
_SUB, _SID = "pZ9yKq2mX0d4Wc1bR7tLhA", "0mN4vT8sQxGf2yHc6JkRwA"
_ACCESS = "eyJ0eXAiOiJhdCtqd3QifQ.eyJzdWIiOiIuLi4ifQ.c2lnbmF0dXJl"
_PENDING = "eyJ0eXAiOiJtZmErand0In0.eyJzdWIiOiIuLi4ifQ.c2lnbmF0dXJl"
_REFRESH, _DEVICE = "ktr_0mN4vT8sQxGf2yHc6JkRwAAAAAHq3U...", "ktd_AXb9..."
_LINK = "ktl_WzE3OTU1MjE2MDAsMTc5NTUyNTIwMCwi..."
_URI = "otpauth://totp/Keyturn:alice?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP&issuer=Keyturn"
_LOGIN = {"username": "alice", "password": "correct horse battery staple"}
_CODES = ["ABCD-EFGH-IJKL-MNOP", "QRST-UVWX-YZ23-4567"]
_FACTOR = {
    "id": _SUB, "type": "totp", "name": "Authenticator app", "created_at": 1795521000, "confirmed_at": 1795521060,
    "last_used_at": 1795521600, "offset_seconds": 0, "weak_secret": False,
}  # fmt: skip
_TOKENS = {
    "mfa_required": False,
    "access_token": _ACCESS,
    "token_type": "Bearer",
    "expires_in": 600,
    "refresh_token": _REFRESH,
}
_ENROLMENT = {"provisioning_uri": _URI, "mfa_token": _PENDING, "expires_in": 300}
_CLIENT = {"client_id": "billing", "client_secret": "kts_..."}

REQUESTS: dict[str, Example] = admin_examples.REQUESTS | {
    "token": {
        "refresh": {
            "summary": "Refresh a session",
            "value": {"grant_type": "refresh_token", "refresh_token": _REFRESH},
        },
        "client": {
            "summary": "A registered client's own access token",
            "value": {"grant_type": "client_credentials", "scope": "invoices:read", **_CLIENT},
        },
    },
    "revoke": {"session": {"summary": "End a session", "value": {"token": _REFRESH}}},
    "introspect": {"access": {"summary": "Ask about an access token", "value": {"token": _ACCESS, **_CLIENT}}},
    "signup": {
        "with_mfa": {"summary": "With a second factor", "value": {**_LOGIN, "enable_mfa": True}},
        "without_mfa": {"summary": "With a password alone", "value": {**_LOGIN, "username": "bob"}},
        "invited": {
            "summary": "With an invitation",
            "value": {**_LOGIN, "email": "alice@example.com", "locale": "de", "invitation": _LINK},
        },
    },
    "login": {
        "password": {"summary": "The password", "value": _LOGIN},
        "known_device": {
            "summary": "From a known device",
            "value": {**_LOGIN, "device_token": _DEVICE, "remember_device": True},
        },
    },
    "login2fa": {
        "code": {"summary": "With a verification code", "value": {"mfa_token": _PENDING, "otp": "492039"}},
        "recovery_code": {
            "summary": "With a recovery code",
            "value": {"mfa_token": _PENDING, "recovery_code": _CODES[0]},
        },
    },
    "enableMfa": {
        "first": {"summary": "The first authenticator", "value": {"password": _LOGIN["password"]}},
        "another": {
            "summary": "Another authenticator",
            "value": {"password": _LOGIN["password"], "name": "Tablet"},
        },
    },
    "renameFactor": {"name": {"summary": "Another name", "value": {"name": "Tablet"}}},
    "disableMfa": {"code": {"summary": "Password and verification code", "value": {**_LOGIN, "token": "492039"}}},
    "askRecovery": {"lost": {"summary": "Every second factor is lost", "value": _LOGIN}},
    "changePassword": {
        "change": {
            "summary": "A new password",
            "value": {
                "current_password": "the passphrase until now",
                "new_password": "another horse, another staple",
            },
        }
    },
    "changeMe": {
        "german": {"summary": "Messages in German", "value": {"locale": "de"}},
        "default": {"summary": "Messages in the language of the service", "value": {"locale": None}},
    },
    "changeEmail": {
        "change": {
            "summary": "A new address",
            "value": {"email": "alice@example.com", "password": _LOGIN["password"]},
        }
    },
    "confirmEmail": {"link": {"summary": "The token of the link", "value": {"token": _LINK}}},
    "cancelEmail": {"link": {"summary": "The token of the link", "value": {"token": _LINK}}},
    "removeEmail": {
        "password": {
            "summary": "A user without a second factor",
            "value": {"password": _LOGIN["password"]},
        }
    },
    "deleteMe": {"password": {"summary": "The password", "value": {"password": _LOGIN["password"]}}},
    "restoreMe": {"password": {"summary": "The password", "value": _LOGIN}},
    "requestPasswordReset": {
        "username": {"summary": "By username", "value": {"username": "alice"}},
        "address": {"summary": "By confirmed address", "value": {"username": "alice@example.com"}},
    },
    "resetPassword": {
        "link": {
            "summary": "The token of the link",
            "value": {"token": _LINK, "new_password": "another horse, another staple"},
        }
    },
}

_METADATA = {
    "issuer": _SERVER,
    "jwks_uri": f"{_SERVER}/.well-known/jwks.json",
    "token_endpoint": f"{_SERVER}/token",
    "revocation_endpoint": f"{_SERVER}/revoke",
    "introspection_endpoint": f"{_SERVER}/introspect",
    "grant_types_supported": ["refresh_token", "client_credentials"],
    "response_types_supported": [],
    "token_endpoint_auth_methods_supported": ["none", "client_secret_basic", "client_secret_post"],
    "revocation_endpoint_auth_methods_supported": ["none", "client_secret_basic", "client_secret_post"],
    "introspection_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
    "acr_values_supported": ["aal1", "aal2"],
    "keyturn_email_endpoint": f"{_SERVER}/email",
    "keyturn_password_reset_endpoint": f"{_SERVER}/password-reset",
}

ANSWERS: dict[str, Example] = admin_examples.ANSWERS | {
    "changeEmail": {
        "accepted": {
            "summary": "A message is on its way",
            "value": {"message": "A message with a link is on its way to the new address."},
        }
    },
    "requestPasswordReset": {
        "accepted": {
            "summary": "The same for every name",
            "value": {
                "message": "If the account has a confirmed e-mail address, a message with a link is on its way to it."
            },
        }
    },
    "token": {
        "refreshed": {
            "summary": "The next tokens of a session",
            "value": {key: value for key, value in _TOKENS.items() if key != "mfa_required"},
        },
        "client": {
            "summary": "A registered client's own access token",
            "value": {
                "access_token": _ACCESS,
                "token_type": "Bearer",
                "expires_in": 600,
                "scope": "invoices:read",
            },
        },
    },
    "introspect": {
        "active": {
            "summary": "A valid access token",
            "value": {
                "active": True, "iss": _SERVER, "aud": _SERVER, "token_type": "Bearer",
                "jti": "x3Yd0Lr9wUe7Qa5sBn1kTg", "iat": 1795521600, "exp": 1795522200,
                "sub": _SUB, "client_id": "keyturn", "username": "alice", "sid": _SID,
                "auth_time": 1795521600, "acr": "aal2", "amr": ["pwd", "otp", "mfa"], "roles": [],
            },
        },
        "inactive": {"summary": "A token that is not valid", "value": {"active": False}},
    },
    "signup": {
        "with_mfa": {
            "summary": "With a second factor",
            "value": {
                "message": "The account exists. Scan the QR code and send its first code to /login-2fa.",
                "username": "alice", "mfa_enabled": True, **_ENROLMENT,
            },
        },
        "without_mfa": {
            "summary": "With a password alone",
            "value": {
                "message": "The account exists. Log in at /login.", "username": "alice", "mfa_enabled": False,
                "provisioning_uri": None, "mfa_token": None, "expires_in": None,
            },
        },
    },
    "login": {
        "second_factor": {
            "summary": "The second factor is next",
            "value": {
                "mfa_required": True, "mfa_confirmed": True, "mfa_token": _PENDING, "expires_in": 300,
                "methods": ["totp", "recovery_code"],
                "message": "Send the code of your authenticator app to /login-2fa.",
            },
        },
        "admitted": {"summary": "Logged in without a second factor", "value": _TOKENS},
    },
    "deleteMe": {"scheduled": {"summary": "In 14 days", "value": {"deleted_at": 1796731200}}},
    "restoreMe": {
        "second_factor": {
            "summary": "The second factor is next",
            "value": {
                "mfa_required": True, "mfa_confirmed": True, "mfa_token": _PENDING, "expires_in": 300,
                "methods": ["totp", "recovery_code"],
                "message": "Send the code of your authenticator app to /login-2fa.",
            },
        },
        "admitted": {"summary": "Restored and logged in without a second factor", "value": _TOKENS},
    },
    "exportMe": EXPORT,
    "login2fa": {
        "admitted": {"summary": "Logged in", "value": _TOKENS},
        "confirmed": {
            "summary": "The first authenticator is confirmed",
            "value": {**_TOKENS, "recovery_codes": _CODES},
        },
        "recovery_code": {"summary": "With a recovery code", "value": {**_TOKENS, "recovery_codes_left": 9}},
        "stepped_up": {
            "summary": "The session is stepped up",
            "value": {key: value for key, value in _TOKENS.items() if key != "refresh_token"},
        },
    },
    "stepUp": {
        "pending": {
            "summary": "The second factor is next",
            "value": {"mfa_token": _PENDING, "expires_in": 300, "methods": ["totp", "recovery_code"]},
        }
    },
    "qrcode": {
        "picture": {"summary": "The beginning of an SVG", "value": "<?xml version='1.0' encoding='UTF-8'?>..."}
    },
    "enrolmentSecret": {
        "secret": {
            "summary": "The secret",
            "value": {"provisioning_uri": _URI, "secret": "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"},
        }
    },
    "enableMfa": {"enrolment": {"summary": "An enrolment has begun", "value": _ENROLMENT}},
    "listFactors": {"factors": {"summary": "One authenticator", "value": {"factors": [_FACTOR]}}},
    "renameFactor": {
        "renamed": {"summary": "The authenticator with its new name", "value": {**_FACTOR, "name": "Tablet"}}
    },
    "disableMfa": {
        "off": {
            "summary": "The second factor is off",
            "value": {
                "message": "The second factor is off. Remove this account from your authenticator app: its codes "
                "are void."
            },
        }
    },
    "replaceRecoveryCodes": {
        "codes": {"summary": "New codes (shortened to two)", "value": {"recovery_codes": _CODES}}
    },
    "askRecovery": {
        "requested": {
            "summary": "The answer to every request",
            "value": {
                "message": "If this is the password of an account with a second factor, log in after the delay to "
                "enrol a new one. A login with the second factor before that cancels the recovery.",
                "delay": 259200,
            },
        }
    },
    "me": {
        "account": {
            "summary": "An account with a second factor",
            "value": {
                "sub": _SUB, "username": "alice", "created_at": 1795521000, "roles": ["admin"],
                "mfa_enabled": True, "mfa_confirmed": True, "recovery_codes_left": 10, "recovery_due_at": None,
                "email": "alice@example.com", "new_email": None, "locale": None, "sid": _SID,
            },
        }
    },
    "changeMe": {
        "account": {
            "summary": "An account with a second factor, whose user gets messages in German",
            "value": {
                "sub": _SUB, "username": "alice", "created_at": 1795521000, "roles": ["admin"],
                "mfa_enabled": True, "mfa_confirmed": True, "recovery_codes_left": 10, "recovery_due_at": None,
                "email": "alice@example.com", "new_email": None, "locale": "de", "sid": _SID,
            },
        }
    },
    "listSessions": {
        "sessions": {
            "summary": "One session",
            "value": {
                "sessions": [
                    {
                        "sid": _SID, "current": True, "created_at": 1795521600, "last_used_at": 1795521600,
                        "expires_at": 1796126400, "auth_time": 1795521600, "amr": ["pwd", "otp", "mfa"],
                        "acr": "aal2", "address": "203.0.113.7", "user_agent": "Mozilla/5.0",
                    }
                ]
            },
        }
    },
    "listEvents": {
        "events": {
            "summary": "One event",
            "value": {
                "events": [
                    {
                        "event": "login.admitted", "occurred_at": 1795521600,
                        "details": {"sid": _SID, "amr": "pwd otp mfa", "address": "203.0.113.7"},
                    }
                ]
            },
        }
    },
    "openidConfiguration": {"metadata": {"summary": "The metadata", "value": _METADATA}},
    "metadata": {"metadata": {"summary": "The metadata", "value": _METADATA}},
    "jwks": {
        "keys": {
            "summary": "One key",
            "value": {
                "keys": [
                    {
                        "kty": "EC", "kid": "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U", "use": "sig",
                        "alg": "ES256", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
                    }
                ]
            },
        }
    },
    "metrics": {
        "text": {"summary": "One metric", "value": 'keyturn_logins_total{outcome="admitted"} 42.0\n'}
    },
    "livez": {"alive": {"summary": "The process runs", "value": {"status": "alive"}}},
    "readyz": {
        "ready": {
            "summary": "Ready",
            "value": {
                "status": "ready", "database": "up", "database_reason": None, "redis": "up", "redis_reason": None,
            },
        },
        "degraded": {
            "summary": "Without Redis",
            "value": {
                "status": "degraded", "database": "up", "database_reason": None, "redis": "down",
                "redis_reason": "Redis does not answer.",
            },
        },
    },
}  # fmt: skip

NOT_READY = {
    "unavailable": {
        "summary": "The database cannot be used",
        "value": {
            "status": "unavailable", "database": "down", "database_reason": "The server refuses connections.",
            "redis": None, "redis_reason": None,
        },
    },
    "draining": {
        "summary": "The process is stopping",
        "value": {
            "status": "draining", "database": "up", "database_reason": None, "redis": None, "redis_reason": None,
        },
    },
}  # fmt: skip
