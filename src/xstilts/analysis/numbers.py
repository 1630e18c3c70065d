"""How numbers are written for people, alike in tables, answers and the report."""

from __future__ import annotations

from collections.abc import Sequence

MINUS = "\N{MINUS SIGN}"
#: What stands where there is no number.
ABSENT = "–"
#: Gains (in points) from which the colours grow stronger, on both sides of 0.
STEPS = (0.5, 2.0, 5.0, 10.0)


def plain(value: float | None, digits: int = 1) -> str:
    """A number with so many decimals and a true minus, none before a zero."""
    if value is None:
        return ABSENT
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", MINUS)


def signed(value: float | None, digits: int = 1) -> str:
    """A change: with its sign, and none where it rounds to zero."""
    if value is None:
        return ABSENT
    text = plain(value, digits)
    return f"+{text}" if value > 0 and float(text) != 0 else text


def interval(low: float | None, high: float | None, digits: int = 1) -> str:
    """Both bounds in brackets; empty where there is no interval."""
    if low is None or high is None:
        return ""
    return f"[{plain(low, digits)}, {plain(high, digits)}]"


def whole(value: float | None) -> str:
    """A whole number, with commas between thousands."""
    return ABSENT if value is None else f"{round(value):,}".replace("-", MINUS)


def p_value(value: float | None) -> str:
    """A p-value to three decimals."""
    if value is None:
        return ABSENT
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def size(count: int) -> str:
    """Bytes in the unit that gives one to three digits before the point."""
    amount, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while amount >= 999.5 and len(units) > 1:
        amount, units = amount / 1000, units[1:]
    return f"{amount:.0f} {units[0]}" if units[0] == "bytes" else f"{amount:.1f} {units[0]}"


def heat(gain: float | None) -> int | None:
    """The step of a gain's colour, from -4 to 4; 0 where it is near nothing."""
    if gain is None:
        return None
    step = sum(abs(gain) >= limit for limit in STEPS)
    return step if gain > 0 else -step


def listed(names: Sequence[str]) -> str:
    """Names as a sentence has them: a, b and c."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def counted(count: int, noun: str, plural: str = "") -> str:
    """A number with its noun."""
    return f"{whole(count)} {noun if count == 1 else plural or noun + 's'}"
