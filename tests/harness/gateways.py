"""Programs in front of a service: nginx, Caddy, or a server that an example starts."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import httpx2

from tests.harness.servers import (
    ANSWERS_WITHIN,
    READY_WITHIN,
    Process,
    clean_environment,
    find_program,
    wait_until,
)


@contextlib.contextmanager
def running(
    arguments: list[str], url: str, environment: dict[str, str] | None = None, *, ready_within: float = READY_WITHIN
) -> Iterator[None]:
    process = Process(arguments, environment={**clean_environment(), **(environment or {})})
    process.start()

    def answers() -> None:
        if process.child is not None and process.child.poll() is not None:
            raise RuntimeError(f"{arguments[0]} exited with {process.child.returncode}")
        httpx2.get(url, timeout=ANSWERS_WITHIN)

    try:
        wait_until(answers, seconds=ready_within)
        yield
    finally:
        process.stop()


def nginx(folder: Path, file: str = "nginx.conf") -> list[str]:
    user = "user root;" if os.geteuid() == 0 else ""
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "main.conf").write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log stderr; {user} events {{}}"
        f" http {{ access_log off; {paths} include {folder}/{file}; }}"
    )
    return [find_program("nginx", "/usr/sbin"), "-p", str(folder), "-c", str(folder / "main.conf")]


def caddy(folder: Path) -> list[str]:
    file = folder / "Caddyfile"
    file.write_text("{\n\tadmin off\n}\n" + file.read_text("utf-8"))
    return [find_program("caddy"), "run", "--config", str(file), "--adapter", "caddyfile"]
