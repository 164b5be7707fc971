"""`keyturn keys`: signing keys, and the master secret that seals all secrets at rest."""

import argparse
import asyncio

from service.cli.parts import DONE, REFUSED, opened_parts, report, when
from service.factors import recovery_codes
from service.operations.resealing import SEALED_COLUMNS, reseal
from service.tokens.keys import public_pem, signing_at


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    signing = commands.add_parser("keys", help="signing keys", description="Show and rotate signing keys.")
    acts = signing.add_subparsers(metavar="COMMAND", required=True)
    listing = acts.add_parser("list", help="list signing keys", description="List signing keys, newest last.")
    listing.set_defaults(run=_keys_list)
    export = acts.add_parser(
        "export",
        help="write public keys as PEM, for verifiers that cannot read a key set",
        description="Write the published public keys to standard output as PEM, the signing key first, each after a "
        "comment with its kid. Most verifiers read only the first key of a file: for those, export one key by kid.",
    )
    export.add_argument("kid", nargs="?", help="one key, as 'keyturn keys list' shows it")
    export.set_defaults(run=_keys_export)
    rotate = acts.add_parser(
        "rotate",
        help="publish a new signing key",
        description="Publish a new signing key now. It signs after KEYTURN_KEY_LEAD (one hour by default), so that "
        "verifiers have fetched it by then; the command prints that time. To withdraw a key that is not trusted any "
        "more, use 'keyturn keys revoke'.",
    )
    rotate.set_defaults(run=_keys_rotate)
    revoke = acts.add_parser(
        "revoke",
        help="in an emergency: invalidate every token that this key signed",
        description="In an emergency: withdraw a signing key and sign with another key. Every replica reads the "
        "change and refuses the tokens of the withdrawn key within half a minute; verifiers refuse them when they "
        "fetch the key set again (within five minutes, or later if they cache it longer). Sessions continue: a "
        "refresh issues tokens that the other key signs.",
    )
    revoke.add_argument("kid", help="as 'keyturn keys list' shows it")
    revoke.set_defaults(run=_keys_revoke)
    resealing = acts.add_parser(
        "reseal",
        help="seal all secrets at rest with the first master secret",
        description="Seal all secrets at rest with the first of KEYTURN_MASTER_SECRETS, so that you can remove the "
        "others. The command may run while the service runs, and may be repeated after an interruption.",
    )
    resealing.set_defaults(run=_keys_reseal)


def _keys_list(_options: argparse.Namespace) -> int:
    async def show() -> None:
        async with opened_parts() as parts:
            now = int(parts.clock().timestamp())
            all_keys = await parts.keys.list_all()
            print(f"{'KID':43} {'ALG':6} {'SIGNS FROM':20} {'UNTIL':20} STATE")
            for key in all_keys:
                is_signing = key is signing_at([key for key in all_keys if key.revoked_at is None], now)
                state = "signing" if is_signing else "next" if key.activates_at > now else "retired"
                state = "revoked" if key.revoked_at is not None else state
                until = when(key.retires_at) if key.retires_at else "-"
                print(f"{key.kid:43} {key.algorithm:6} {when(key.activates_at):20} {until:20} {state}")

    asyncio.run(show())
    return DONE


def _keys_export(options: argparse.Namespace) -> int:
    async def export() -> int:
        async with opened_parts() as parts:
            now = parts.clock()
            published = await parts.keys.list_published(now)
            signing = signing_at(published, int(now.timestamp()))
            published.sort(key=lambda key: (key is not signing, -key.activates_at))
            chosen = [key for key in published if options.kid in {None, key.kid}]
            for key in chosen:
                state = "signing" if key is signing else "next" if key.activates_at > now.timestamp() else "retired"
                print(f"# kid {key.kid}, {key.algorithm}, {state}\n{public_pem(key)}", end="")
        if not chosen:
            report("keyturn: no key with this kid is published.")
            return REFUSED
        return DONE

    return asyncio.run(export())


def _keys_rotate(_options: argparse.Namespace) -> int:
    async def rotate() -> int:
        async with opened_parts() as parts:
            key = await parts.keys.rotate(parts.clock())
            if key is None:
                report("keyturn: a new key is already published and does not sign yet.")
                return REFUSED
            print(f"{key.kid} is published and signs from {when(key.activates_at)}.")
            return DONE

    return asyncio.run(rotate())


def _keys_revoke(options: argparse.Namespace) -> int:
    async def revoke() -> int:
        async with opened_parts() as parts:
            signing = await parts.keys.revoke(options.kid, parts.clock())
            if signing is None:
                report("keyturn: there is no such key, or it is revoked already.")
                return REFUSED
            print(
                f"{options.kid} is revoked; {signing.kid} signs. Keyturn refuses the tokens of the revoked key "
                "within half a minute; other verifiers accept them until they fetch the key set again (or restart)."
            )
            return DONE

    return asyncio.run(revoke())


def _keys_reseal(_options: argparse.Namespace) -> int:
    async def reseal_all() -> int:
        broken = 0
        async with opened_parts() as parts:
            for column in SEALED_COLUMNS:
                done = await reseal(parts.database, parts.sealer, column)
                broken += done.broken
                print(
                    f"{done.table}: {done.changed} resealed"
                    + (f", {done.broken} that no listed master secret opens" if done.broken else "")
                )
            idle = parts.settings.refresh_idle_ttl
            has_old = len(parts.settings.read_master_secrets()) > 1
            without_key = await recovery_codes.count_users_without_key(parts.database) if has_old else 0
        if without_key:
            report(
                f"keyturn: the recovery codes of {without_key} users are from before schema 0002 and depend on the "
                "master secret of that time: keep it listed until they have replaced them (POST /recovery-codes).",
            )
        if broken:
            report("keyturn: keep every master secret listed until every row can be opened.")
        if without_key or broken:
            return REFUSED
        if has_old:
            print(f"Keep the old master secret listed for {idle} s: a session that is not refreshed by then ends.")
        return DONE

    return asyncio.run(reseal_all())
