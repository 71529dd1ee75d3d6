"""How a run ended, in words: what one must know of a result before looking at it."""

from __future__ import annotations

from collections.abc import Mapping

DEAD = "dead"
"""Nothing excites the unit: it did not fire on the recorded data, and no stream has a gradient even so."""
NO_GRADIENT = "no gradient from this start"
"""The unit does fire on data, but nothing told the run where to go."""
OFF = "off at the end"
"""The run moved, and the unit is not on: its activation is 0 or less."""
LOW = "below its ahat"
"""The unit is on, but real data excited it more."""
REACHED = "reached"
"""The unit is as active as real data made it, or more."""

ALL = (DEAD, NO_GRADIENT, OFF, LOW, REACHED)

NOTHING_TO_SEE = (DEAD, NO_GRADIENT)
"""Endings of runs that never moved towards anything."""


def ending(gradient_max: Mapping[str, float], activation: float, ahat: float, floored: bool) -> str:
    """One of the words above.

    Args:
      gradient_max: stream -> largest |d a / d x| of all steps.
      activation: a(x) of the result.
      ahat: of the unit, > 0.
      floored: the unit fired too little over the recorded data to have an ahat of its own.

    >>> ending({"appearance": 0.0, "motion": 0.0}, 0.0, 3.0, floored=True)
    'dead'
    >>> ending({"appearance": 0.1, "motion": 0.0}, 12.0, 3.0, floored=False)
    'reached'
    """
    if not any(gradient_max.values()):
        return DEAD if floored else NO_GRADIENT
    if not activation > 0:
        return OFF
    return LOW if activation < ahat else REACHED


def without_gradient(gradient_max: Mapping[str, float]) -> list[str]:
    """The streams of a result that received no gradient while another did: they show what the run started from.

    Args:
      gradient_max: stream -> largest |d a / d x| of all steps.

    >>> without_gradient({"appearance": 0.5, "motion": 0.0})
    ['motion']
    """
    any_at_all = any(gradient_max.values())
    return [stream for stream, gradient in gradient_max.items() if not gradient] if any_at_all else []
