"""What a run found, in plain sentences."""

from collections.abc import Sequence

from promptgraft.card import Score
from promptgraft.intervals import paired_difference
from promptgraft.tuning.candidate import Candidate


def verdict(winner: Candidate, linear: Candidate, candidates: Sequence[Candidate]) -> str:
    """Say whether the winner beats the linear probe, and which candidates cannot be told from the winner.

    Two candidates are told apart where the 95 % interval of their paired difference leaves out zero.

    Args:
        winner: the chosen candidate.
        linear: the linear probe.
        candidates: all of them; failed ones are passed over.
    """
    if winner is linear:
        said = "Nothing beats the linear probe on the validation split: no prompt is needed here."
    else:
        difference = paired_difference(winner.val_correct, linear.val_correct)
        if difference.low > 0:
            said = f"{_name(winner)} beats the linear probe by {_points(difference)}."
        else:
            said = f"{_name(winner)} is not distinguishable from the linear probe: ahead by {_points(difference)}."
    others = [c for c in candidates if c not in (winner, linear) and c.val_score() is not None]
    near = [c for c in others if paired_difference(winner.val_correct, c.val_correct).low <= 0]
    if near:
        it = "the linear probe" if winner is linear else _name(winner)
        said += f" Not distinguishable from {it}: {', '.join(map(_name, near))}."
    return said


def _name(candidate: Candidate) -> str:
    return candidate.label if candidate.source is None else f"{candidate.label} of {candidate.source}"


def _points(difference: Score) -> str:
    value, low, high = (100 * number for number in (difference.value, difference.low, difference.high))
    return f"{value:.1f} points (95 % interval {low:.1f} to {high:.1f})"
