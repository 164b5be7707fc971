"""What the routes below `/admin` share: parameters of lists, and the answers that several of them have."""

from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import AfterValidator, BaseModel, Field

from service.accounts.invitations import MAX_PAGE_SIZE
from service.static_claims import (
    MAX_BYTES,
    MAX_NAME_LENGTH,
    MAX_WHOLE_NUMBER,
    NAME_PATTERN,
    TEXT_PATTERN,
    check_claims,
)
from service.web.account_answers import InvitationAnswer

TAG = "Administration"
READ_USERS, WRITE_USERS = "keyturn:users.read", "keyturn:users.write"
CLIENTS, READ_EVENTS = "keyturn:clients", "keyturn:events.read"
"""The scopes. Each grants only itself."""

_SUB = "pZ9yKq2mX0d4Wc1bR7tLhA"
_TEXT = {"type": "string", "pattern": f"^{TEXT_PATTERN}$"}
_NUMBER = {"type": "integer", "minimum": -MAX_WHOLE_NUMBER, "maximum": MAX_WHOLE_NUMBER}

Limit = Annotated[int, Query(ge=1, le=MAX_PAGE_SIZE, description=f"How many at most: 1 to {MAX_PAGE_SIZE}.")]
Cursor = Annotated[
    str | None,
    Query(max_length=1024, description="Where the page begins: `next_cursor` of the page before; same filters."),
]
Sub = Annotated[
    str, Path(max_length=255, description="The `sub` of the user, percent-encoded; `/` as %2F.", examples=[_SUB])
]
Sid = Annotated[str, Path(max_length=64, description="The id of the session.", examples=["0mN4vT8sQxGf2yHc6JkRwA"])]

NEXT_CURSOR = "Where the next page begins. Null: this is the last page. A page before it may be empty or short."
Roles = Annotated[
    list[str],
    Field(
        description="The roles: 16 at most, each 1 to 64 of a-z 0-9 . _ : -. Only a user with the role keyturn-admin "
        "can add or remove that role.",
        examples=[["support"]],
    ),
]
StaticClaims = Annotated[
    dict[str, Any],
    Field(
        description="All static claims that the account has from now on. A value is a string, a whole number, true, "
        f"false or a list of strings. At most {MAX_BYTES} bytes as JSON in ASCII. A name must not be a registered "
        "claim or one that Keyturn uses. Absent: they stay.",
        json_schema_extra={
            "additionalProperties": {
                "anyOf": [_TEXT, _NUMBER, {"type": "boolean"}, {"type": "array", "items": _TEXT}]
            },
            "propertyNames": {"pattern": f"^({NAME_PATTERN})$", "maxLength": MAX_NAME_LENGTH},
        },
        examples=[{"tenant": "acme"}],
    ),
    AfterValidator(check_claims),
]
DEFAULT_LIMIT = 50


class NewInvitationAnswer(BaseModel):
    """A new invitation."""

    invitation: InvitationAnswer
    link: str | None = Field(
        description="The link, shown only now; null where a message brings it to the address of the invitation."
    )
