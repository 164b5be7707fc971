"""`keyturn users sessions` and `end-sessions`: the sessions of a user."""

import argparse
import asyncio
import json
from typing import Any

from service.cli.parts import DONE, NAME_HELP, REFUSED, opened_parts, report, when
from service.errors import NotFound
from service.origin import OPERATOR
from service.sessions.sessions import MAX_LISTED_SESSIONS, SessionSummary
from service.users.users import User


def add_to(acts: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    listing = acts.add_parser(
        "sessions",
        help="list the sessions of an account",
        description="List the live sessions of an account. The session that was used last comes first. Of more than "
        f"{MAX_LISTED_SESSIONS} sessions it lists those that were used last.",
    )
    listing.add_argument("name", help=NAME_HELP)
    listing.add_argument("--json", action="store_true", help="one JSON object per line, times in epoch seconds")
    listing.set_defaults(run=_list)
    ending = acts.add_parser(
        "end-sessions",
        help="end every session of an account, or one",
        description="End every session of an account, and revoke its pending tokens and device tokens. With --sid, "
        "end one session only, and revoke no other token.",
    )
    ending.add_argument("name", help=NAME_HELP)
    ending.add_argument("--sid", help="only this session, from the list; --sid=SID if it begins with -")
    ending.set_defaults(run=_end)


def as_json(session: SessionSummary) -> dict[str, Any]:
    """Return a session as the admin API has it."""
    return {
        "sid": session.id,
        "created_at": session.created_at,
        "last_used_at": session.last_used_at,
        "expires_at": session.expires_at,
        "auth_time": session.auth_time,
        "amr": list(session.amr),
        "acr": session.acr,
        "address": session.address,
        "user_agent": session.user_agent,
    }


def _list(options: argparse.Namespace) -> int:
    async def find() -> list[SessionSummary]:
        async with opened_parts() as parts:
            return await parts.user_sessions.list_live(await parts.administration.get(options.name))

    found = asyncio.run(find())
    if not options.json:
        print(f"{'SID':22} {'SINCE':20} {'LAST USED':20} {'EXPIRES':20} {'AMR':11} {'ADDRESS':15} USER-AGENT")
    for session in found:
        print(json.dumps(as_json(session)) if options.json else _line(session))
    return DONE


def _line(session: SessionSummary) -> str:
    times = " ".join(map(when, (session.created_at, session.last_used_at, session.expires_at)))
    return f"{session.id:22} {times} {','.join(session.amr):11} {session.address:15} {session.user_agent}".rstrip()


def _end(options: argparse.Namespace) -> int:
    async def end() -> User | None:
        async with opened_parts() as parts:
            user = await parts.administration.get(options.name)
            if options.sid is None:
                await parts.user_sessions.end_all(user, by=OPERATOR)
                return user
            try:
                await parts.user_sessions.end(user, options.sid, by=OPERATOR)
            except NotFound:
                return None
            return user

    user = asyncio.run(end())
    if user is None:
        report("keyturn: the user has no such session, or it has ended.")
        return REFUSED
    print(f"{'Every' if options.sid is None else 'One'} session of {user.username} has ended.")
    return DONE
