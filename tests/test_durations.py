"""Durations in settings: one syntax for all of them, and a sentence for each mistake."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.durations import UNITS, as_text, read_seconds
from service.environment import read_settings
from service.errors import ConfigurationError
from service.settings import PREFIX

S, D = timedelta(seconds=1), timedelta(days=1)

SETTINGS: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("KEEP_ALIVE", {"60": 60, "60s": 60, "1m": 60, "1h": 3600}, ("1d", "4", "3601s")),
    ("DRAIN_DELAY", {"0": 0, "0s": 0, "30": 30, "30s": 30, "10m": 600}, ("1h", "1d", "601")),
    ("ACCESS_TTL", {"600": 600, "30s": 30, "10m": 600, "2h": 7200, "1d": 86400}, ("29s", "25h", "2d")),
    ("MFA_PENDING_TTL", {"300": 300, "30s": 30, "5m": 300, "1h": 3600}, ("29", "61m", "2h", "1d")),
    ("REFRESH_TTL", {"2592000": 2592000, "604800s": 604800, "11000m": 660000, "720h": 2592000, "30d": 2592000},
     ("59s", "3651d")),
    ("REFRESH_IDLE_TTL", {"604800": 604800, "60s": 60, "90m": 5400, "2h": 7200, "7d": 604800}, ("59s", "3651d")),
    ("KEY_ROTATION_DAYS", {"90": 90, "90d": 90, "0": 0, "0d": 0, "48h": 2, "2880m": 2, "172800s": 2},
     ("36h", "25h", "86401s", "1m", "3651d")),
    ("REMEMBER_DEVICE_DAYS", {"30": 30, "30d": 30, "0": 0, "24h": 1, "1440m": 1, "86400s": 1}, ("12h", "91d", "1s")),
    ("KEY_LEAD", {"330": 330 * S, "330s": 330 * S, "90m": 5400 * S, "2h": 7200 * S, "30d": 30 * D},
     ("329", "5m", "31d", "off")),
    ("RECOVERY_DELAY", {"72h": 3 * D, "30s": 30 * S, "90m": 5400 * S, "7d": 7 * D, "off": None},
     ("72", "0h", "0s", "1000000d")),
]  # fmt: skip
"""Every setting that is a duration: accepted texts with their values, and texts outside its bounds."""

NAMES = [name for name, *_ in SETTINGS]
MALFORMED = ["10 minutes", "1.5h", "1,5h", "1h30m", "10M", "10min", "m", "h5", "1e3", "0x10", "1_000", "+10m", "--5m",
             "10 000", "ten", "PT10M", "10w", "10m;", "\u0661\u0660m", "\uff11\uff10m", "\u00b2h",
             "10\u043c"]  # fmt: skip
OUT_OF_BOUNDS = ["-1", "-10m", "-1d", "9" * 20, "9" * 20 + "d", "1" + "0" * 5000 + "s", "99999999999h"]


def read(name: str, text: str) -> Any:
    settings = read_settings(
        {PREFIX + name: text, **({"KEYTURN_KEY_ROTATION_DAYS": "0"} if name == "KEY_LEAD" else {})}
    )
    return getattr(settings, name.lower())


def refusal(name: str, text: str) -> str:
    with pytest.raises(ConfigurationError) as refused:
        read(name, text)
    return str(refused.value)


@pytest.mark.parametrize(
    ("name", "text", "value"), [(name, text, value) for name, good, _ in SETTINGS for text, value in good.items()]
)
def test_a_duration_is_a_number_and_a_unit(name: str, text: str, value: object) -> None:
    """Space around the number and the unit is ignored, and so are leading zeros."""
    assert value == read(name, text)
    assert value == read(name, f"  {text}\n")
    if text[-1] in UNITS:
        assert value == read(name, f"{text[:-1]} {text[-1]}")
        assert value == read(name, f"000{text}")


@pytest.mark.parametrize("name", NAMES)
def test_an_unset_or_empty_duration_has_its_default(name: str) -> None:
    """White space alone is refused: somebody meant to write a value."""
    assert getattr(read_settings({}), name.lower()) == getattr(read_settings({PREFIX + name: ""}), name.lower())
    assert f"{PREFIX}{name}: it has white space only." in refusal(name, "  ")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", MALFORMED + OUT_OF_BOUNDS, ids=lambda text: ascii(text)[1:24])
def test_a_mistake_gets_one_sentence_with_the_name_and_an_example(name: str, text: str) -> None:
    """The sentence does not repeat the text, which may be a secret that was pasted into the wrong setting."""
    sentence = refusal(name, text)
    assert sentence.startswith(f"{PREFIX}{name}") or (name == "KEY_LEAD" and f"{PREFIX}KEY_LEAD must be" in sentence)
    assert "like " in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert len(text) < 5 or text not in sentence


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, _, bad in SETTINGS for text in bad])
def test_a_duration_has_bounds(name: str, text: str) -> None:
    """The sentence names the setting; a setting in days accepts whole days only."""
    assert f"{PREFIX}{name}" in refusal(name, text)


def test_a_delay_without_a_unit_is_refused() -> None:
    """`72` could mean hours: read as seconds, it would let a thief of the password in after 72 s."""
    assert "needs the unit" in refusal("RECOVERY_DELAY", "72")


def test_the_bounds_are_named_in_both_forms() -> None:
    """An operator reads them as the setting was written before, and as durations."""
    assert "it must be 30 to 86400 seconds (30s to 1d). Write it like 10m." in refusal("ACCESS_TTL", "2d")
    assert "it must be 0 to 3650 days (0 to 3650d). Write it like 90d." in refusal("KEY_ROTATION_DAYS", "-1")


@given(st.integers(0, 10**10))
def test_a_text_of_a_duration_is_read_as_itself(seconds: int) -> None:
    """This is so for every number of seconds."""
    assert seconds == read_seconds(as_text(seconds), plain="s", like="10m")


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text raises another error, and only ASCII digits are read."""
    digits = "".join(character for character in text if character in "0123456789")
    try:
        assert abs(read_seconds(text, plain="s", like="10m")) in {int(digits) * length for length in UNITS.values()}
    except ValueError as error:
        assert "write it like 10m" in str(error)  # noqa: PT017 -- either outcome is right
