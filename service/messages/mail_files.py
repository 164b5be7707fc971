"""Messages as files, for trying them on one machine: `<data folder>/mail/<id>.eml`, each named in the log.

The letter of `keyturn messages send-test` is named on standard output only.
Any mail program opens them. Only their owner may read them, because they have links.
"""

import asyncio
import os
import secrets
from pathlib import Path

from service.messages.mail import Letter
from service.messages.transport import Refusal


class MailFiles:
    """A `Carrier` that writes a file for each letter. One that is written again replaces the first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def carry(self, letter: Letter) -> Refusal | None:
        try:
            await asyncio.to_thread(self._write, letter)
        except OSError:
            return Refusal("not_written")
        return None

    async def try_once(self, letter: Letter) -> tuple[Refusal | None, str]:
        return await self.carry(letter), f"The message is in {self.name_of(letter.id)}."

    async def end_round(self) -> None:
        """Do nothing: there is no connection."""

    def name_of(self, letter_id: str) -> str:
        return str(self._folder / f"{letter_id}.eml")

    def _write(self, letter: Letter) -> None:
        """Write the whole file before it gets its name, so that no reader finds a part of it."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = Path(self.name_of(letter.id))
        draft = file.with_name(f".{file.name}-{secrets.token_hex(8)}")
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(letter.content)
                out.flush()
                os.fsync(out.fileno())
            draft.replace(file)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
