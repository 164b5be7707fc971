"""The arithmetic of the benchmarks, checked against published values and general properties."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import forgeries
from bench.board import Line, read, tell, write
from bench.costs import Cost, Totals, per_request
from bench.estimate import BUSY, DAY, PEOPLE, Sizes, gigabytes, need, page, rates
from bench.figures import blocks, cropped, percentile, slope, student, welch
from bench.mutators import FORM_TYPE, JSON_TYPE, Target, flipped, mutators_of
from bench.scoreboard import Program, lines_of
from bench.scoreboard import page as scoreboard

NUMBERS = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50)


@given(values=NUMBERS, share=st.floats(0, 1))
def test_a_percentile_is_a_value_that_enough_do_not_exceed(values: list[float], share: float) -> None:
    """No smaller value satisfies this."""
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)
    assert all(sum(v <= smaller for v in values) < share * len(values) for smaller in values if smaller < found)


def test_welch_agrees_with_a_textbook() -> None:
    """The values are the third example of Wikipedia's article on Welch's test, whose results are R's."""
    a = [19.8, 20.4, 19.6, 17.8, 18.5, 18.9, 18.3, 18.9, 19.5, 22.0]
    b = [28.2, 26.6, 20.1, 23.3, 25.2, 22.1, 17.7, 27.6, 20.6, 13.7, 23.2, 17.5, 20.6, 18.0, 23.9, 21.6, 24.3, 20.4,
         24.0, 13.2]  # fmt: skip
    assert -2.22 == pytest.approx(welch(a, b), abs=0.01)
    assert -welch(b, a) == welch(a, b)


def test_welch_sees_a_small_difference_in_much_noise() -> None:
    """With 5,000 values, a difference of a tenth of their deviation is significant, and no difference is not."""
    noise = random.Random(7)
    a, b = ([noise.gauss(1000, 50) for _ in range(5000)] for _ in range(2))
    assert abs(welch(a, b)) < 4.5
    assert welch([value + 5 for value in a], b) > 4.5


def test_values_that_do_not_vary_differ_or_not() -> None:
    """There is no division by zero: equal values give 0, different values give infinity."""
    assert 0 == welch([1, 1], [1, 1])
    assert float("-inf") == welch([1, 1], [2, 2])


@given(a=NUMBERS, b=NUMBERS)
def test_cropping_has_one_bound_for_both(a: list[float], b: list[float]) -> None:
    """Both keep the values up to the same bound, and most of all values are kept."""
    left_a, left_b = cropped(a, b, keep=0.9)
    bound = max([*left_a, *left_b])
    assert left_a == [value for value in a if value <= bound]
    assert left_b == [value for value in b if value <= bound]
    assert len(left_a) + len(left_b) >= 0.9 * (len(a) + len(b))


def test_cropping_shows_a_difference_that_interruptions_hide() -> None:
    """A difference that a few long interruptions hide is significant without them."""
    noise = random.Random(3)
    a, b = ([noise.gauss(mean, 5) + 2000 * (noise.random() < 0.02) for _ in range(2000)] for mean in (100, 102))
    assert abs(welch(a, b)) < 4.5 < abs(welch(*cropped(a, b, keep=0.9)))


def test_the_slope_is_that_of_the_line() -> None:
    """Anscombe's first data set: 0.5001, with a standard error of 0.1179 and nine degrees of freedom."""
    x = [10, 8, 13, 9, 11, 14, 6, 4, 12, 7, 5]
    y = [8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68]
    found = slope(list(zip(x, y, strict=True)))
    assert 0.5001 == pytest.approx(found.per_unit, abs=1e-4)
    assert 0.1179 * 2.262 == pytest.approx(found.margin, abs=1e-3)
    assert found.at_least < 0.5 < found.at_most
    with pytest.raises(ValueError, match="2 points"):
        slope([(0, 0), (1, 1)])


def test_the_margin_of_a_slope_is_correct() -> None:
    """For about 95 % of two hundred noisy lines the true slope is within the margin."""
    noise = random.Random(5)
    found = [slope([(x, 0.3 * x + noise.gauss(0, 10)) for x in range(30)]) for _ in range(200)]
    assert 180 <= sum(one.at_least <= 0.3 <= one.at_most for one in found) < 200
    assert slope([(x, 3 * x + noise.gauss(0, 10)) for x in range(30)]).at_least > 2


def test_stretches_keep_the_mean_and_every_point() -> None:
    """Seven points in three stretches: each counts once. With more stretches than points, each point is a stretch."""
    points = [(float(x), float(x * x)) for x in range(7)]
    assert [(0.5, 0.5), (2.5, 6.5), (5.0, pytest.approx((16 + 25 + 36) / 3))] == blocks(points, 3)
    assert points == blocks(points, 100)


@pytest.mark.parametrize(("freedom", "bound"), [(1, 12.706), (9, 2.262), (11, 2.201), (30, 2.042), (1000, 1.962)])
def test_students_bounds_are_those_of_the_tables(freedom: int, bound: float) -> None:
    """The bounds are two-sided, for a level of 5 %."""
    assert bound == pytest.approx(student(freedom), abs=0.001)


def test_lines_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Programs write lines for the scoreboard. A missed goal gives the exit status 1; a missing goal does not."""
    lines = [Line("a", "< 1", "0.5 µs", is_good=True, command="x"), Line("b", "", "?", is_good=None, command="y")]
    write(tmp_path / "lines.json", lines)
    assert lines == read(tmp_path / "lines.json")
    assert 0 == tell(lines, None)
    assert 1 == tell([*lines, Line("c", "< 1", "2", is_good=False, command="z")], tmp_path / "missed.json")
    assert 3 == len(read(tmp_path / "missed.json"))
    (tmp_path / "other.json").write_text('[{"what": "a"}]')
    with pytest.raises(TypeError):
        read(tmp_path / "other.json")


LOGIN = Target(
    "POST", "/login", "/login", {"username": "alice", "password": "correct horse", "remember_device": False},
    JSON_TYPE, required=frozenset({"username", "password"}),
)  # fmt: skip
TOKEN = Target(
    "POST", "/token", "/token", {"grant_type": "refresh_token", "refresh_token": "ktr_x"}, FORM_TYPE,
    required=frozenset({"grant_type"}),
)  # fmt: skip
ME = Target("GET", "/me", "/me", bearer="a.b.c")


@pytest.mark.parametrize("target", [LOGIN, TOKEN, ME], ids=lambda target: target.path)
def test_every_mutator_changes_the_request(target: Target) -> None:
    """Every draw differs from the original, and the same seed gives the same request."""
    for mutator in (*mutators_of(target), flipped):
        drawn = [mutator(target, random.Random(seed)) for seed in range(50)]
        assert target.whole() not in drawn, mutator
        assert drawn == [mutator(target, random.Random(seed)) for seed in range(50)], mutator


def test_a_mutated_json_body_is_never_valid() -> None:
    """It is no strict JSON object, lacks a field, has an extra field, or has a field of another type."""
    assert LOGIN.body is not None
    for mutator in mutators_of(LOGIN):
        for seed in range(100):
            request = mutator(LOGIN, random.Random(seed))
            head, _, body = request.partition(b"\r\n\r\n")
            if request.startswith(LOGIN.whole().partition(b"Content-Length")[0]) and b"chunked" not in head:
                assert not is_login(body), (mutator, body)


def is_login(body: bytes) -> bool:
    """Return whether the service would accept it as a login (law 13: input is validated at the edge, strictly)."""
    try:
        pairs = json.loads(body.decode(), object_pairs_hook=list)
        members = dict(pairs)
    except (ValueError, TypeError, RecursionError):
        return False
    assert LOGIN.body is not None
    is_whole = len(members) == len(pairs) and set(members) == set(LOGIN.body) and len(body) <= 16384
    texts = [members.get("username"), members.get("password")]
    is_text = all(isinstance(text, str) and text.isprintable() for text in texts)
    return is_whole and is_text and isinstance(members.get("remember_device"), bool)


def test_the_vectors_that_pyjwt_takes_are_six() -> None:
    """Four have keys that are not for signing, which only their JWK says; two are valid in this context."""
    if not forgeries.VECTORS.exists():
        pytest.skip(f"{forgeries.VECTORS} is missing: the JWS vectors of Project Wycheproof did not run")
    assert (401, 6) == (len(forgeries.wycheproof()), forgeries.accepted_by_pyjwt_alone())


def test_a_cost_is_the_used_time_divided_by_the_number_of_requests() -> None:
    """Seconds become milliseconds; the command that measures is not counted."""
    before, after = Totals(1, 2, 3, 10, 100, 1000), Totals(2, 2.5, 3.1, 30, 141, 3000)
    cost = per_request("x", before, after, 10)
    assert (100, 50, 2, 4, 200) == (cost.service, cost.sql, cost.statements, cost.commands, cost.wal)
    assert 10 == pytest.approx(cost.redis)


def costs_of(milliseconds: Callable[[str], float]) -> list[Cost]:
    return [Cost(what, milliseconds(what), 1, 0.1, 2, 3, 100) for what in rates()]


def test_the_estimate_adds_up() -> None:
    """Cores are rate times cost at a utilisation of 60 %; hashing is separate; every rate needs its cost.

    A login with a code commits twice.
    """
    request_rates = rates()
    assert request_rates["/login-2fa"] == pytest.approx(PEOPLE * 4 / DAY)
    needed = need(costs_of(lambda what: 25 if what.startswith("/login,") else 1), request_rates)
    hashes = request_rates["/login, the password"] + request_rates["/login, refused"]
    assert needed.hashing == pytest.approx(hashes * 0.025 / BUSY)
    assert needed.service == pytest.approx((sum(request_rates.values()) - hashes) * 0.001 / BUSY)
    assert needed.sql == pytest.approx(sum(request_rates.values()) * 0.001 / BUSY)
    assert needed.commits == pytest.approx(
        2 * request_rates["/login-2fa"] + request_rates["/token"] + request_rates["/logout"]
    )
    assert 2 * needed.replicas >= needed.service + needed.hashing > 2 * (needed.replicas - 1)
    with pytest.raises(KeyError):
        need(costs_of(lambda _: 1)[1:], request_rates)


def test_the_page_has_every_figure() -> None:
    """No placeholder is left, and each request and each table has its row."""
    sizes = Sizes(users=300, totp_authenticators=400, sessions=350, events=200)
    text = page(costs_of(lambda _: 1), sizes, [Line("a / b", ">= 1.7", "1.9", is_good=True, command="c")], cores=8)
    assert "{" not in text
    for row in ("| /token |", "| users | 300 | 3 |", "| a / b | >= 1.7 | 1.9 |"):
        assert row in text
    assert 3.0 == gigabytes(sizes)["users"]


def test_the_scoreboard_counts_and_hides_nothing() -> None:
    """The table and the line above it report missed figures; a vertical bar in a text does not end its cell."""
    lines = [
        Line("t", "|t| < 4.5", "1.2", is_good=True, command="python -m bench.timing"),
        Line("p99", "at most 3", "4", is_good=False, command="python -m bench.login_burst"),
        Line("replicas", "at least 1.7", "2 cores", is_good=None, command=""),
    ]
    text = scoreboard(lines, quick=True)
    assert "3 figures: 1 reached, 1 missed;\n1 have" in text
    assert "only show that the programs work" in text
    assert "| t | \\|t\\| < 4.5 | 1.2 | yes | `python -m bench.timing` |" in text
    assert "| p99 | at most 3 | 4 | **no** |" in text


def test_a_program_that_gives_no_figures_is_a_miss(tmp_path: Path) -> None:
    """A missing program is reported, invalid output is a miss, and figures written before are read."""
    line = Line("a", "1", "1", is_good=True, command="c")
    write(tmp_path / "here.json", [line])
    (tmp_path / "broken.json").write_text("{")
    assert [line] == lines_of(Program("bench.here", ()), tmp_path, quick=True)
    assert [None] == [one.is_good for one in lines_of(Program("bench.nowhere", ()), tmp_path, quick=True)]
    assert [False] == [one.is_good for one in lines_of(Program("bench.broken", ()), tmp_path, quick=True)]
    assert [False] == [one.is_good for one in lines_of(Program("bench.hashing", ("nonsense",)), tmp_path, quick=True)]
