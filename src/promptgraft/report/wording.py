"""How numbers and candidates are written for people, in the terminal and on the page."""

import math
from collections.abc import Mapping
from typing import Any

DASH = "–"
NBSP = "\u00a0"
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def finite(value: object) -> float | None:
    """Return a number as a float, and None for anything that is missing, not a number or not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def score(accuracy: Mapping[str, Any] | None, key: str = "value") -> float | None:
    """Read one entry of `{"value", "low", "high", "n"}`, None where it is missing."""
    return finite((accuracy or {}).get(key))


def new_inputs(modality: object) -> str:
    """What `predict` may be given next, as an example: a folder of images, or a table of texts."""
    return "new.csv" if modality == "text" else "new/"


def percent(value: object) -> str:
    """0.871 -> "87.1 %"."""
    number = finite(value)
    return DASH if number is None else f"{100 * number:.1f}{NBSP}%"


def accuracy(mean: object, sd: object = None) -> str:
    """A mean accuracy in percent with its standard deviation over seeds, for a column of them: "87.8 ± 0.8"."""
    number, spread = finite(mean), finite(sd)
    if number is None:
        return DASH
    return f"{100 * number:.1f}" if spread is None else f"{100 * number:.1f} ± {100 * spread:.1f}"


def decimal(value: object) -> str:
    """A rank or a coefficient to one decimal: -43.26 -> "−43.3"."""
    number = finite(value)
    return DASH if number is None else f"{number:.1f}".replace("-", "−")


def p_value(value: object) -> str:
    """0.0312 -> "0.031"."""
    number = finite(value)
    if number is None:
        return DASH
    return f"<{NBSP}0.001" if number < 0.001 else f"{number:.3f}"


def significant(value: object, digits: int = 3) -> str:
    """A number that may be very small: 0.0412 -> "0.0412", 0.0000206 -> "2.06·10⁻⁵"."""
    number = finite(value)
    if number is None:
        return DASH
    mantissa, _, exponent = f"{number:.{digits}g}".partition("e")
    return f"{mantissa}·10{str(int(exponent)).translate(_RAISED)}" if exponent else mantissa


def span(accuracy: Mapping[str, Any] | None) -> str:
    """The interval of an accuracy, in percent: "75.8 to 91.9"."""
    low, high = score(accuracy, "low"), score(accuracy, "high")
    return DASH if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f}"


def points(value: object) -> str:
    """A difference of accuracies in percentage points, with its sign: 0.032 -> "+3.2"."""
    number = finite(value)
    return DASH if number is None else f"{100 * number:+.1f}".replace("-", "−")


def compact(value: object) -> str:
    """A count in three digits or fewer: 92160 -> "92 k"."""
    number = finite(value)
    if number is None:
        return DASH
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= 0.9995 * size:
            scaled = number / size
            return f"{scaled:.0f}{NBSP}{unit}" if abs(scaled) >= 9.95 else f"{scaled:.1f}{NBSP}{unit}"
    return f"{number:.0f}"


def memory(value: object) -> str:
    """Bytes in decimal units: 412_000_000 -> "412 MB"."""
    number = finite(value)
    if number is None:
        return DASH
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= 0.9995 * size:
            return f"{number / size:.0f}{NBSP}{unit}" if number >= 9.95 * size else f"{number / size:.1f}{NBSP}{unit}"
    return f"{number:.0f}{NBSP}B"


def duration(value: object) -> str:
    """Seconds as a person says them: 171.2 -> "2 min 51 s"."""
    number = finite(value)
    if number is None:
        return DASH
    if number < 9.95:
        return f"{number:.1f}{NBSP}s"
    minutes, seconds = divmod(round(number), 60)
    if not minutes:
        return f"{seconds}{NBSP}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}{NBSP}h {minutes}{NBSP}min" if hours else f"{minutes}{NBSP}min {seconds}{NBSP}s"


def method_name(candidate: Mapping[str, Any]) -> str:
    """Method and layers of a candidate: "spt deep"."""
    return " ".join(str(part) for part in (candidate.get("method"), candidate.get("layers")) if part)


def source_name(candidate: Mapping[str, Any]) -> str:
    """Where a candidate's prompt started: a source prompt, the task's own tokens (SPT), or empty for nowhere."""
    own = "own tokens" if str(candidate.get("method")).startswith("spt") else ""
    return str(candidate.get("source") or own)


def ensemble(candidate: Mapping[str, Any]) -> str:
    """Which prompts a candidate started from together, with their weights, heaviest first; empty for one or none."""
    weights = candidate.get("weights") or {}
    parts = [f"{name} {weight:.2f}" for name, weight in sorted(weights.items(), key=lambda item: -item[1])]
    return f"{method_name(candidate)} weighs {', '.join(parts)}" if parts else ""


def by_accuracy(candidates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sort candidates: the winner, then by validation accuracy from the best down, those without one last."""

    def order(candidate: dict[str, Any]) -> tuple[bool, bool, float]:
        value = score(candidate.get("val_accuracy"))
        return not candidate.get("winner"), value is None, -(value or 0.0)

    return sorted(candidates, key=order)
