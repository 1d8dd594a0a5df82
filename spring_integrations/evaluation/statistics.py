"""How sure a mean over questions is, and whether two systems differ: bootstrap and permutation test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spring_integrations._optional import require
from spring_integrations.errors import DataError

CONFIDENCE = 0.95
RESAMPLES = 10_000
_DRAWS_AT_ONCE = 5_000_000  # of 8 bytes each; scipy would otherwise hold all resamples in memory


@dataclass(frozen=True)
class Interval:
    """A mean over questions and its 95 % confidence interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedTest:
    """A system compared with another on the same questions.

    Attributes:
        difference: mean of the first minus mean of the second.
        interval: the difference with its 95 % confidence interval.
        p_value: of the two-sided test that the difference is 0.
    """

    difference: float
    interval: Interval
    p_value: float


def mean_interval(values: Sequence[float], *, seed: int = 0) -> Interval:
    """Returns the mean of per-question values with its percentile bootstrap interval (Efron 1979).

    Values that are all equal, and a single value, give an interval of no width: nothing in them
    tells how another sample would differ.

    Args:
        values: one a question.
        seed: of the bootstrap.

    Raises:
        DataError: if there are no values, or one is not finite.
    """
    data = _checked(values)
    mean = float(data.mean())
    if (data == data[0]).all():
        return Interval(float(data[0]), float(data[0]), float(data[0]))
    found = _scipy_stats().bootstrap(
        (data,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=_batch(data),
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return Interval(mean, float(found.confidence_interval.low), float(found.confidence_interval.high))


def paired_test(first: Sequence[float], second: Sequence[float], *, seed: int = 0) -> PairedTest:
    """Compares two systems by their values on the same questions, in the same order.

    The p-value is that of the sign-flip permutation test on the differences (Fisher 1935; Smucker et
    al. 2007, section 3.2, call it the randomization test), exact where there are few questions.

    Args:
        first: one value a question.
        second: another system's values, in the same order.
        seed: of the permutations.

    Raises:
        DataError: if the systems have different numbers of values, none, or one that is not finite.
    """
    a, b = _checked(first), _checked(second)
    if len(a) != len(b):
        msg = f"{len(a)} values cannot be paired with {len(b)}: compare two systems on the same questions"
        raise DataError(msg)
    differences = a - b
    interval = mean_interval(differences.tolist(), seed=seed)
    if len(differences) == 1 or not differences.any():
        return PairedTest(interval.mean, interval, 1.0)
    found = _scipy_stats().permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        n_resamples=RESAMPLES,
        batch=_batch(differences),
        rng=np.random.default_rng(seed),
    )
    return PairedTest(interval.mean, interval, float(found.pvalue))


def _checked(values: Sequence[float]) -> np.ndarray[Any, Any]:
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or not data.size:
        msg = f"values must be a list of one number per question, got shape {data.shape}"
        raise DataError(msg)
    if not np.isfinite(data).all():
        at = int(np.flatnonzero(~np.isfinite(data))[0])
        msg = f"value {at} is {data[at]}, not a finite number; score every question before averaging"
        raise DataError(msg)
    return data


def _batch(data: np.ndarray[Any, Any]) -> int:
    return max(1, _DRAWS_AT_ONCE // len(data))


def _scipy_stats() -> Any:
    return require("scipy.stats", extra="eval")
