"""A processor without the image's instructions gets a sentence before a compiled module could crash the process."""

import subprocess
import sys
from pathlib import Path

import pytest

from service import processor
from tests.harness.servers import REPOSITORY, clean_environment

V3 = sorted(processor.LEVELS["x86-64-v3"])
OLD = [flag for flag in V3 if flag not in {"avx2", "bmi2", "fma"}]

PROCESSORS: list[tuple[str | None, str | None, str | None]] = [
    ("x86-64-v3\n", f"processor\t: 0\nflags\t\t: fpu {' '.join(V3)} sse2\n", None),
    ("x86-64-v3\n", f"processor\t: 0\nflags\t\t: {' '.join(OLD)}\nvmx flags\t: {' '.join(V3)}\n", "avx2, bmi2, fma"),
    ("x86-64-v3", "flags : fpu sse2\n", "abm, avx, avx2"),
    ("x86-64-v2", "flags : " + " ".join(OLD), None),
    ("x86-64-v2", "flags : fpu sse2\n", "cx16"),
    ("x86-64-v9", "flags : fpu\n", None),
    ("", "flags : fpu\n", None),
    (None, "flags : fpu\n", None),
    ("x86-64-v3", "processor : 0\nFeatures : fp asimd\n", None),
    ("x86-64-v3", "", None),
    ("x86-64-v3", None, None),
]
"""The level of the build, /proc/cpuinfo (`None`: no such file), and the features reported as missing."""


@pytest.mark.parametrize(("built_for", "cpuinfo", "missing"), PROCESSORS)
def test_missing_features_are_named(
    tmp_path: Path, built_for: str | None, cpuinfo: str | None, missing: str | None
) -> None:
    """They are named only if the image states its level and the kernel states the features of the processor."""
    files = {tmp_path / "marker": built_for, tmp_path / "cpuinfo": cpuinfo}
    for file, text in files.items():
        if text is not None:
            file.write_text(text)
    obstacle = processor.find_obstacle(*files)
    assert (missing is None) == (obstacle is None)
    assert missing is None or f"lacks {missing}" in str(obstacle)
    assert missing is None or "ARGON2_CFLAGS=-O3" in str(obstacle)


COMMAND = """
import sys
from pathlib import Path

from service.__main__ import main

marker, cpuinfo = map(Path, sys.argv[1:3])
sys.argv = ["keyturn", "--version"]
status = main(marker=marker, cpuinfo=cpuinfo)
assert not {name for name in sys.modules if name.partition(".")[0] in {"argon2", "_argon2_cffi_bindings", "cffi"}}
sys.exit(status)
"""


def test_the_command_reports_it_before_importing_compiled_modules(tmp_path: Path) -> None:
    """The exit status is 2, there is one sentence, and no module of Argon2 is loaded."""
    (tmp_path / "marker").write_text("x86-64-v3\n")
    (tmp_path / "cpuinfo").write_text("flags : fpu sse2\n")
    result = subprocess.run(
        [sys.executable, "-c", COMMAND, str(tmp_path / "marker"), str(tmp_path / "cpuinfo")],
        cwd=REPOSITORY, env=clean_environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (2, "") == (result.returncode, result.stdout)
    assert result.stderr.startswith(
        "keyturn: This image is built for processors of the level x86-64-v3, and this one"
    )
    assert 1 == len(result.stderr.splitlines())


def test_the_dockerfile_and_the_command_agree() -> None:
    """They agree on the file of the level, and on the command that reads it."""
    dockerfile = (REPOSITORY / "Dockerfile").read_text("utf-8")
    assert f"> /opt/keyturn/{processor.MARKER.name}" in dockerfile
    assert "python -m venv --without-pip /opt/keyturn" in dockerfile, "this is sys.prefix in the image"
    assert 'keyturn = "service.__main__:main"' in (REPOSITORY / "pyproject.toml").read_text("utf-8")


@pytest.mark.parametrize(
    ("flags", "level"),
    [
        ("-O3 -march=x86-64-v3", "x86-64-v3"),
        ("-march=x86-64-v2 -O2", "x86-64-v2"),
        ("-O3", None),
        ("-O3 -march=native", None),
    ],
)
def test_the_dockerfile_writes_the_level_of_the_flags(tmp_path: Path, flags: str, level: str | None) -> None:
    """Its own lines, run by a shell, write a known level or no file."""
    lines = (REPOSITORY / "Dockerfile").read_text("utf-8")
    begins = lines.index('case "$flags" in \\\n')
    script = lines[begins : lines.index("CFLAGS=", begins)].replace("\\\n", " ").rstrip()
    script = script.replace("/opt/keyturn", str(tmp_path))
    subprocess.run(["sh", "-euc", script], env={**clean_environment(), "flags": flags}, check=True)
    file = tmp_path / processor.MARKER.name
    assert level == (file.read_text().strip() if file.exists() else None)
