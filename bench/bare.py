"""A minimal FastAPI application, `python -m bench.bare PORT`: a POST with a pydantic body, and a GET."""

import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel


class Body(BaseModel):
    mfa_token: str
    otp: str


class Answer(BaseModel):
    access_token: str
    expires_in: int


app = FastAPI()


@app.post("/login-2fa")
async def post(body: Body) -> Answer:
    return Answer(access_token=body.mfa_token, expires_in=600)


@app.get("/verify")
async def get() -> Answer:
    return Answer(access_token="", expires_in=600)


@app.get("/readyz")
async def get_readyz() -> None:
    return


if __name__ == "__main__":
    # The same settings of uvicorn as the service; see service/web/server.py.
    uvicorn.run(app, port=int(sys.argv[1]), loop="uvloop", http="httptools", ws="none", access_log=False,
                proxy_headers=False, server_header=False, log_level="warning")  # fmt: skip
