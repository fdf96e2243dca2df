"""Numbers as a reader wants them: as many decimals as the spread deserves, a true minus, no NaN."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

ABSENT = "–"


def decimals(intervals: Sequence[Mapping[str, Any]]) -> int:
    """Decimals for a column: two digits of its typical ±, or of the differences between its means.

    More where the smallest ± would read as zero: at least one digit of it, but two more decimals at the most.
    """
    halves = sorted(i["high"] - i["mean"] for i in intervals if i["high"] is not None and i["high"] > i["mean"])
    means = [i["mean"] for i in intervals if i["mean"] is not None]
    spread = halves[len(halves) // 2] if halves else (max(means) - min(means)) / 4 if len(means) > 1 else 0.0
    if spread <= 0:
        spread = abs(means[0]) / 50 if means else 0.0
    if spread <= 0:
        return 3
    usual = 1 - math.floor(math.log10(spread))
    least = -math.floor(math.log10(halves[0])) if halves else usual
    return min(6, max(0, usual, min(least, usual + 2)))


def number(value: float | None, digits: int = 3, signed: bool = False) -> str:
    """A number with fixed decimals; scientific where that would be unreadable."""
    if value is None:
        return ABSENT
    sign = "+" if signed else ""
    if abs(value) >= 1e7 or (digits >= 6 and 0 < abs(value) < 1e-4):
        text = f"{value:{sign}.3g}"
    elif abs(value) < 10.0**-digits / 2:
        text = f"{0:.{digits}f}"
    else:
        text = f"{value:{sign}.{digits}f}"
    return text.replace("-", "−")


def interval(entry: Mapping[str, Any] | None, digits: int, signed: bool = False) -> str:
    """Mean ± half width of the 95 % interval; the mean alone with one seed."""
    if entry is None or entry["mean"] is None:
        return ABSENT
    mean = number(entry["mean"], digits, signed)
    return mean if entry["high"] is None else f"{mean} ± {number(entry['high'] - entry['mean'], digits)}"


def p_value(value: float | None) -> str:
    """Three decimals, and no false exactness below."""
    if value is None:
        return ABSENT
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def ends(low: float, high: float) -> tuple[str, str]:
    """The two ends of an axis, with as many digits as it takes to tell them apart."""
    for digits in range(2, 8):
        texts = f"{low:.{digits}g}", f"{high:.{digits}g}"
        if abs(float(texts[1]) - float(texts[0]) - (high - low)) <= 0.1 * abs(high - low):
            break
    return texts


def count(value: float | None) -> str:
    """A whole number with thin spaces between thousands."""
    return ABSENT if value is None else f"{round(value):,}".replace(",", "\u202f")


def four_digits(value: float) -> str:
    """A number of any size."""
    return f"{value:.4g}".replace("-", "−")


def rounded(spec: str) -> str:
    """A spec with four digits of each of its numbers, as `gradnorm:alpha=2.051`; to be read, not to be typed."""
    return re.sub(r"\d+\.\d+(e[+-]?\d+)?", lambda found: f"{float(found[0]):.4g}", spec)


def shortened(text: str, length: int = 42) -> str:
    """A long spec with its middle left out, so that both ends still tell it apart."""
    if len(text) <= length:
        return text
    head = (length - 1) // 2
    return f"{text[:head]}…{text[len(text) - (length - 1 - head) :]}"


def two_lines(text: str, length: int) -> str:
    """A long spec broken after a separator, each line shortened to `length`."""
    if len(text) <= length:
        return text
    breaks = [place + 1 for place, character in enumerate(text[:length]) if character in "+:,"]
    cut = breaks[-1] if breaks else length
    return f"{text[:cut]}\n{shortened(text[cut:], length)}"
