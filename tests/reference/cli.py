"""`docs/reference/cli.md`: every command of `keyturn`, from its parser."""

import argparse
from collections.abc import Iterator

from service import cli
from tests.reference.markdown import page, paragraph, table


def commands(parser: argparse.ArgumentParser | None = None) -> Iterator[argparse.ArgumentParser]:
    """The parser of every command that can be run, in the order of the help."""
    parser = parser or cli.make_parser()
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield parser
    for action in below:
        for command in action.choices.values():
            yield from commands(command)


def write() -> str:
    """The page as Markdown."""
    return page(
        "Commands",
        paragraph(
            "`keyturn COMMAND --help` prints the same. Except `attack` and `passwords build-list`, a command reads "
            "the settings of the service from the environment: run it where the service runs. No command takes a "
            "secret as an argument."
        ),
        paragraph(
            "Exit status: 0 done; 1 refused, for example because there is no such user; 2 wrong usage or settings; "
            "130 stopped by SIGINT; 143 stopped by SIGTERM (`keyturn serve`: 0 in both cases). `keyturn doctor` has "
            "a meaning of its own for 1, and `keyturn attack` for 1 and 3. `keyturn attack` that is stopped by "
            "SIGINT still reports. It ends with 1 or 3, not with 130."
        ),
        *(_section(command) for command in commands()),
    )


def _section(command: argparse.ArgumentParser) -> str:
    parts = [f"## {command.prog}\n", f"```console\n$ {_usage(command)}\n```\n", paragraph(command.description or "")]
    arguments = [action for action in command._actions if not isinstance(action, argparse._HelpAction)]
    if arguments:
        parts.append(
            table(("argument", "meaning"), [(f"`{_name(action)}`", meaning(action)) for action in arguments])
        )
    return "\n".join(parts)


def _usage(command: argparse.ArgumentParser) -> str:
    words = [command.prog]
    for action in command._actions:
        if not isinstance(action, argparse._HelpAction):
            name = _name(action) + (f" [{_name(action)} ...]" if action.nargs == "+" else "")
            words.append(name if action.required else f"[{name}]")
    return " ".join(words)


def _name(action: argparse.Action) -> str:
    if not action.option_strings:
        return str(action.metavar or action.dest).upper()
    value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
    return action.option_strings[-1] + value


def meaning(action: argparse.Action) -> str:
    text = action.help or {"username": "the username", "client_id": "the id of the client", "role": "the role"}.get(
        action.dest, ""
    )
    choices = [str(choice) for choice in action.choices or ()]
    listed = f" ({', '.join(choices)})" if choices and not all(choice in text for choice in choices) else ""
    return text[:1].upper() + text[1:] + listed
