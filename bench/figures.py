"""The statistics behind the verdicts: Welch's t, a percentile, a slope with its confidence interval. Pure."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` (0 to 1) of the values do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def welch(a: Sequence[float], b: Sequence[float]) -> float:
    """Return Welch's t: by how many standard errors the mean of `a` exceeds that of `b`, for any variances."""
    error = standard_error(a, b)
    difference = fmean(a) - fmean(b)
    return difference / error if error else math.copysign(math.inf, difference) if difference else 0.0


def standard_error(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the standard error of the difference of the means."""
    return math.sqrt(variance(a) / len(a) + variance(b) / len(b))


def cropped(a: Sequence[float], b: Sequence[float], *, keep: float) -> tuple[list[float], list[float]]:
    """Return the values of each up to one bound, the percentile `keep` of both together.

    dudect does the same ("dude, is my code constant time?", 2017): an interruption only makes a measurement longer,
    and hides a small difference. Both have the same bound, because different ones would create a difference.
    """
    bound = percentile([*a, *b], keep)
    return [value for value in a if value <= bound], [value for value in b if value <= bound]


@dataclass(frozen=True, slots=True)
class Slope:
    """The slope of a line through points, per unit of x. The true slope is within `margin` in 19 cases of 20."""

    per_unit: float
    margin: float

    @property
    def at_least(self) -> float:
        return self.per_unit - self.margin

    @property
    def at_most(self) -> float:
        return self.per_unit + self.margin


def slope(points: Sequence[tuple[float, float]]) -> Slope:
    """Fit a line by least squares. Raises `ValueError` for fewer than three points, which always lie on a line."""
    n = len(points)
    if n < 3:
        raise ValueError(f"{n} points are too few for a slope")
    mean_x, mean_y = fmean(x for x, _ in points), fmean(y for _, y in points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    per_unit = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    rest = sum((y - mean_y - per_unit * (x - mean_x)) ** 2 for x, y in points)
    return Slope(per_unit, student(n - 2) * math.sqrt(rest / (n - 2) / spread))


def blocks(points: Sequence[tuple[float, float]], how_many: int) -> list[tuple[float, float]]:
    """Return the means of `how_many` consecutive stretches of the points.

    Neighbouring samples of a process are correlated, so a thousand samples have less information than a thousand
    independent points. The margin of a slope through the means is right; through the samples it is much too small.
    """
    how_many = min(how_many, len(points))
    cuts = [len(points) * n // how_many for n in range(how_many + 1)]
    stretches = [points[begin:end] for begin, end in itertools.pairwise(cuts)]
    return [(fmean(x for x, _ in stretch), fmean(y for _, y in stretch)) for stretch in stretches]


def student(freedom: int) -> float:
    """Return the bound that Student's t with `freedom` degrees exceeds, on either side, in one case of 20."""
    if freedom <= len(_STUDENT):
        return _STUDENT[freedom - 1]
    z = 1.959964  # Cornish and Fisher's expansion: three decimal places are right from here on
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


_STUDENT = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
)  # fmt: skip
