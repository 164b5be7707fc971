"""A receiver of Keyturn's events (Standard Webhooks, version 1), on another port than Keyturn.

Run in the folder of this repository, after `make run` has run once:

    export KEYTURN_WEBHOOK_SECRET=whsec_$(openssl rand -base64 32)
    .venv/bin/python -m uvicorn --app-dir examples webhook_receiver:app --port 8001

Start Keyturn with the same KEYTURN_WEBHOOK_SECRET and with KEYTURN_WEBHOOK_URL=http://localhost:8001/keyturn. Other
environments need `pip install fastapi uvicorn`. An event may arrive twice: recognise it by its id.
"""

import base64
import hmac
import json
import os
import time
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, HTTPException, Request

TOLERANCE = 300
"""Maximum age of a delivery in seconds. An older one may be a replay."""

seen: set[str] = set()  # in production: a UNIQUE column of your database
app = FastAPI()


def read_event(headers: Mapping[str, str], body: bytes, secret: str) -> dict[str, Any]:
    """Return the event. Raises `ValueError` or `KeyError` unless it was signed recently with this secret."""
    message_id, timestamp = headers["webhook-id"], headers["webhook-timestamp"]
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, "sha256")
    signatures = [base64.b64decode(text.removeprefix("v1,")) for text in headers["webhook-signature"].split(" ")]
    if not any(hmac.compare_digest(expected, signature) for signature in signatures):
        raise ValueError("not signed by Keyturn")
    if abs(time.time() - int(timestamp)) > TOLERANCE:
        raise ValueError("too old")
    event: dict[str, Any] = json.loads(body)
    return event


@app.post("/keyturn", status_code=204)
async def receive(request: Request) -> None:
    try:
        event = read_event(request.headers, await request.body(), os.environ["KEYTURN_WEBHOOK_SECRET"])
    except (KeyError, ValueError) as error:
        raise HTTPException(401) from error
    if request.headers["webhook-id"] in seen:
        return
    seen.add(request.headers["webhook-id"])
    if event["type"] == "code.refused_repeatedly":
        print(f"Tell {event['data']['username']}: somebody knows your password. If it was not you, change it.")
    if event["type"] == "user.deleted":
        print(f"Delete everything about the user with the sub {event['data']['sub']}.")
