"""`keyturn clients`: registered clients, which authenticate with an id and a secret. A secret is shown once."""

import argparse
import asyncio

from service.cli.parts import DONE, REFUSED, opened_parts, report, when
from service.errors import ConfigurationError
from service.origin import OPERATOR
from service.sessions.registration import MAX_OVERLAP_HOURS

NO_SUCH_CLIENT = "keyturn: there is no such client."


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    registered = commands.add_parser(
        "clients", help="registered clients", description="Show and change registered clients."
    )
    acts = registered.add_subparsers(metavar="COMMAND", required=True)
    add = acts.add_parser(
        "add",
        help="register a client and show its secret",
        description="Register a client and show its secret, only this once. The client may use /introspect; with a "
        "scope it may also get access tokens of its own (grant_type=client_credentials).",
    )
    add.add_argument("client_id")
    add.add_argument(
        "--scope", action="append", default=[], help="its scopes, for example 'invoices:read invoices:write'"
    )
    add.set_defaults(run=_clients_add)
    listing = acts.add_parser("list", help="list clients", description="List registered clients.")
    listing.set_defaults(run=_clients_list)
    rotate = acts.add_parser(
        "rotate-secret",
        help="give a client a new secret and show it",
        description="Give a client a new secret and show it, only this once.",
    )
    rotate.add_argument("client_id")
    rotate.add_argument(
        "--overlap",
        type=float,
        default=0,
        metavar="HOURS",
        help=f"hours for which the old secret stays valid (default: 0; at most {MAX_OVERLAP_HOURS})",
    )
    rotate.set_defaults(run=_clients_rotate)
    remove = acts.add_parser(
        "remove",
        help="remove a client",
        description="Remove a client. Its access tokens are inactive at /introspect at once.",
    )
    remove.add_argument("client_id")
    remove.set_defaults(run=_clients_remove)


def _clients_add(options: argparse.Namespace) -> int:
    async def add() -> str | None:
        async with opened_parts() as parts:
            scopes = tuple(" ".join(options.scope).split())
            try:
                return await parts.clients.add(options.client_id, scopes, by=OPERATOR)
            except ValueError as error:
                raise ConfigurationError(f"{error}.") from None

    secret = asyncio.run(add())
    if secret is None:
        report("keyturn: this client_id is taken.")
        return REFUSED
    print(secret)
    report(f"{options.client_id} is registered; its secret is the line above, shown this once.")
    return DONE


def _clients_list(_options: argparse.Namespace) -> int:
    async def show() -> None:
        async with opened_parts() as parts:
            print(f"{'CLIENT_ID':32} {'SINCE':20} {'OLD SECRET UNTIL':20} SCOPES")
            for client in await parts.clients.list_all():
                until = client.previous_until or 0
                old = when(until) if until > parts.clock().timestamp() else "-"
                print(f"{client.id:32} {when(client.created_at)} {old:20} {' '.join(client.scopes)}".rstrip())

    asyncio.run(show())
    return DONE


def _clients_rotate(options: argparse.Namespace) -> int:
    async def rotate() -> str | None:
        async with opened_parts() as parts:
            try:
                return await parts.clients.rotate_secret(
                    options.client_id, overlap_hours=options.overlap, by=OPERATOR
                )
            except ValueError as error:
                raise ConfigurationError(f"{error}.") from None

    secret = asyncio.run(rotate())
    if secret is None:
        report(NO_SUCH_CLIENT)
        return REFUSED
    print(secret)
    return DONE


def _clients_remove(options: argparse.Namespace) -> int:
    async def remove() -> bool:
        async with opened_parts() as parts:
            return await parts.clients.remove(options.client_id, by=OPERATOR)

    if not asyncio.run(remove()):
        report(NO_SUCH_CLIENT)
        return REFUSED
    print(f"{options.client_id} is removed.")
    return DONE
