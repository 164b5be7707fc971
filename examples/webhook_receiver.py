"""Receives Keyturn's security events (Standard Webhooks, version 1), on a port that is not Keyturn's.

In the folder of this repository, after `make run` was started once:

    export KEYTURN_WEBHOOK_SECRET=whsec_$(openssl rand -base64 32)
    .venv/bin/python -m uvicorn --app-dir examples webhook_receiver:app --port 8001

and Keyturn with the same KEYTURN_WEBHOOK_SECRET and KEYTURN_WEBHOOK_URL=http://localhost:8001/keyturn. Elsewhere it
needs `pip install fastapi uvicorn`. An event may come twice: recognise it by its id.
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
"""Seconds that an event may be on its way: an older one is somebody's copy."""

seen: set[str] = set()  # for good: a UNIQUE column of your database
app = FastAPI()


def read_event(headers: Mapping[str, str], body: bytes, secret: str) -> dict[str, Any]:
    """The event, if it was signed with this secret a moment ago. Raises `ValueError`."""
    message_id, timestamp = headers["webhook-id"], headers["webhook-timestamp"]
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, "sha256")
    signatures = [base64.b64decode(one.removeprefix("v1,")) for one in headers["webhook-signature"].split(" ")]
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
        print(f"Tell {event['data']['username']}: somebody knows your password. Was it you? If not, change it.")
