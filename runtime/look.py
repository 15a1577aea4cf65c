"""`Look`: how strong and how warm the colours of a whole result are."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from .errors import HintError

_RANGES = {"saturation": (0.0, 3.0), "strength": (0.0, 1.0), "warmth": (-1.0, 1.0)}


@dataclass(frozen=True)
class Look:
    """How the network's colours are put on the photo.

    Parameters
    ----------
    saturation : float
        Factor of a and b (Lab), 0 to 3; 1 is as the network says.
    strength : float
        1 for the network's colours, 0 for the photo's own (of a grey photo, none), between them a
        mixture.
    warmth : float
        -1 (cold) to 1 (warm): what is added to a and b, most at middle grey, nothing at black and
        white.

    Raises
    ------
    HintError
        If a value is none of these.
    """

    saturation: float = 1.0
    strength: float = 1.0
    warmth: float = 0.0

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value: Any = getattr(self, name)
            try:
                number = math.nan if isinstance(value, bool | str) else float(value)
            except (TypeError, ValueError, OverflowError):
                number = math.nan
            if not low <= number <= high:
                raise HintError(f"{name} must be {low:g} to {high:g}, not {value!r:.60}.")
            object.__setattr__(self, name, number)

    @property
    def plain(self) -> bool:
        """Whether it changes nothing."""
        return self == PLAIN

    def to_row(self) -> dict[str, float]:
        """What differs from a plain look, as a hint file holds it."""
        return {k: v for k, v in asdict(self).items() if v != getattr(PLAIN, k)}

    @classmethod
    def of_row(cls, row: Any) -> Look:
        """Read `to_row`; other keys are ignored."""
        if not isinstance(row, dict):
            raise HintError('"look" in the hint file must hold saturation, strength or warmth.')
        return cls(**{k: v for k, v in row.items() if k in _RANGES})


PLAIN = Look()
