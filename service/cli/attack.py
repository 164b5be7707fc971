"""`keyturn attack URL`: test your own deployment for weaknesses of authentication, from outside."""

import argparse
import asyncio
from contextlib import nullcontext
from pathlib import Path

from service.cli.parts import report
from service.errors import ConfigurationError

FAMILIES = (
    "confusion", "forgery", "replay", "refresh", "headers", "mailbox", "links", "deletion", "administration",
    "guessing", "enumeration", "malformed", "slow",
)  # fmt: skip


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    attack = commands.add_parser(
        "attack",
        help="attack your own deployment, and report which attacks it withstood",
        description="Attack a Keyturn service over the network, with accounts made for the purpose, and report which "
        "attacks it withstood. The command attacks only a service that you control: one on this machine, or one that "
        "publishes the hash of your proof (KEYTURN_ATTACK_PROOF). Exit status: 0 all held, 1 something is broken, "
        "2 wrong usage or no control, 3 nothing is broken but something was not tried.",
    )
    attack.add_argument("url", metavar="URL", help="URL of the service, http(s)://host[:port][/path]")
    attack.add_argument("--only", metavar="FAMILY", action="append", choices=FAMILIES, default=[],
                        help="only this family (group) of attacks; may be repeated: "
                        f"{', '.join(FAMILIES)}")  # fmt: skip
    attack.add_argument(
        "--proof",
        metavar="FILE",
        type=Path,
        help="the file with the proof; by default the proof is in KEYTURN_ATTACK_PROOF",
    )
    attack.add_argument("--json", metavar="FILE", type=Path, help="also write the report to this file, as JSON")
    attack.add_argument(
        "--budget-seconds",
        metavar="N",
        type=_positive,
        default=120,
        help="maximum duration of the attacks in seconds, without the clean-up (120)",
    )
    attack.add_argument(
        "--budget-requests",
        metavar="N",
        type=_positive,
        default=20_000,
        help="maximum number of requests, without the clean-up (20000)",
    )
    attack.add_argument("--timing-samples", metavar="N", type=_positive, default=12,
                        help="number of logins with an unknown username, and as many with a known one, whose "
                        "durations are compared (12, which the default rate limits allow; without rate limits, a "
                        "hundred are more precise)")  # fmt: skip
    attack.add_argument("--patience", metavar="SECONDS", type=_positive, default=20,
                        help="time after which a slow client should be disconnected (20)")  # fmt: skip
    attack.add_argument("--forwarded", action="store_true",
                        help="the URL is that of a proxy: also try chains of forwarded addresses")  # fmt: skip
    attack.add_argument(
        "--mail",
        metavar="FOLDER",
        type=Path,
        help="the folder in which the service's messages arrive as .eml files, such as data/mail: also try genuine "
        "links (family mailbox)",
    )
    attack.set_defaults(run=_attack)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _attack(options: argparse.Namespace) -> int:
    # Imported here, so that other commands do not load it.
    from service.attack import attack
    from service.attack.campaign import Options
    from service.attack.target import Budget

    budget = Budget(seconds=options.budget_seconds, requests=options.budget_requests)
    attack_options = Options(
        families=frozenset(options.only),
        timing_samples=options.timing_samples,
        forwarded=options.forwarded,
        patience=options.patience,
        mail=options.mail,
    )
    proof = _proof(options.proof)
    try:
        file = None if options.json is None else options.json.open("w", encoding="utf-8")  # now, not after the run
    except OSError as error:
        raise ConfigurationError(f"The report cannot be written to {options.json}: {error.strerror}.") from None
    with file or nullcontext():
        report = asyncio.run(attack(options.url, proof=proof, budget=budget, options=attack_options, tell=_tell))
        if file is not None:
            file.write(report.json())
    print(report.text(), end="")
    return report.status


def _proof(file: Path | None) -> str | None:
    if file is None:
        from service.environment import read_attack_proof

        return read_attack_proof()
    try:
        return file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The proof in {file} cannot be read: {error}.") from None


def _tell(line: str) -> None:
    report(line)
