"""Settings from the environment: which variables exist, and a sentence for each mistake.

White space around a value is ignored. An empty variable counts as unset, because Compose passes a variable that the
host does not have as an empty one.
"""

import os
import re
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from service.errors import ConfigurationError
from service.secret_files import read_only_line
from service.settings import PREFIX, Settings
from service.values import clean

FROM_FILES = ("database_url", "redis_url", "webhook_secret", "smtp_url", "attack_proof")
"""Secrets that can also be read from a file, which the same setting with `_FILE` names: for container secrets.

The master secrets can be read from a file as well; it can have several lines.
"""

_SERVICE_LINK = re.compile(
    r"KEYTURN_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
"""Variables that Kubernetes sets in a pod for every Service beside it (docker links have the same form)."""

_PLAIN = {
    "int_parsing": "it must be a whole number",
    "bool_parsing": "it must be true or false",
    "path_type": "it must be a path",
}
"""Plain words for some errors of pydantic."""


def read_settings(environment: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Read the settings. `overrides` are options of a command.

    Raises `ConfigurationError`, with one line for each value that is wrong. Unknown settings are reported alone, and
    so is a file that cannot be read.
    """
    environment = os.environ if environment is None else environment
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    files = {f"{PREFIX}{name.upper()}_FILE": name for name in FROM_FILES}
    _refuse_unknown(environment, known | files.keys())
    given, mistakes = _clean_all(environment, known | files.keys())
    for setting, name in files.items():
        if setting in given:
            if PREFIX + name.upper() in given:
                raise ConfigurationError(f"{PREFIX}{name.upper()} and {setting} are both set. Unset one.")
            given[PREFIX + name.upper()] = read_only_line(setting, Path(given.pop(setting)))
    values = {name.removeprefix(PREFIX).lower(): text for name, text in given.items()}
    try:
        settings = Settings(**{**values, **overrides})
    except ValidationError as error:
        mistakes += [_sentence(mistake) for mistake in error.errors(include_input=False, include_url=False)]
    if mistakes:
        raise ConfigurationError("\n".join(mistakes)) from None
    return settings


def _refuse_unknown(environment: Mapping[str, str], known: Set[str]) -> None:
    """Raise `ConfigurationError` for an unknown setting: an operator would believe that it has an effect."""
    unknown = sorted(name for name in environment if name.upper().startswith(PREFIX) and name not in known)
    by_kubernetes = [name for name in unknown if _SERVICE_LINK.fullmatch(name)]
    if by_kubernetes or environment.get(f"{PREFIX}PORT", "").startswith("tcp://"):
        raise ConfigurationError(
            f"{', '.join(by_kubernetes) or PREFIX + 'PORT'} comes from Kubernetes, which sets such variables for a "
            "Service whose name begins with keyturn. Set enableServiceLinks: false in the pod's spec."
        )
    if unknown:
        raise ConfigurationError(f"Unknown setting: {', '.join(unknown)}. docs/reference/settings.md lists them all.")


def _clean_all(environment: Mapping[str, str], names: Set[str]) -> tuple[dict[str, str], list[str]]:
    """The values that are set, without white space around them, and a sentence for each that cannot be cleaned."""
    cleaned, mistakes = {}, []
    for name in sorted(names & environment.keys()):
        if environment[name]:
            try:
                cleaned[name] = clean(environment[name])
            except ValueError as error:
                mistakes.append(f"{name}: {error}.")
    return cleaned, mistakes


def _sentence(mistake: Any) -> str:
    """One of pydantic's errors as a sentence for an operator."""
    name = "".join(f"{PREFIX}{str(part).upper()}: " for part in mistake["loc"][:1])
    text = mistake["msg"].removeprefix("Value error, ").removesuffix(".")
    return f"{name}{_PLAIN.get(mistake['type']) or text.replace('Input should be', 'it must be')}."


def read_attack_proof() -> str | None:
    """Read the one setting of `keyturn attack`, which may run where no other setting of a service is set."""
    return os.environ.get(f"{PREFIX}ATTACK_PROOF", "").strip() or None
