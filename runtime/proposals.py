"""Several ways to begin with a photo, for a person to choose from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .hints import Hint, Hints

if TYPE_CHECKING:
    from .session import Session

_PLACES = 3  # of each proposal: few enough to be seen through
_SIDE = 5 / 256  # of a hint, of the photo's


def proposals(session: Session, k: int) -> list[Hints]:
    """Up to `k` sets of hints; the first is empty: what the network says by itself.

    The others put hints where they tell most (`Session.next_places`), each with the next likely
    colour of its place (`Session.suggest`): the second set with the second likeliest, and so on.

    Parameters
    ----------
    session : Session
        Of the photo; its hints are not changed.
    k : int

    Returns
    -------
    list of Hints
    """
    size = session.width, session.height
    found = [Hints(image_size=size)]
    places = session.next_places(_PLACES)
    colors = [session.suggest(x, y, k) for x, y in places]
    side = max(1, round((size[0] * size[1]) ** 0.5 * _SIDE))
    for i in range(1, k):
        # Where so many colours cannot be told apart, the place keeps its own.
        hints = [
            Hint(x, y, some[i], side)
            for (x, y), some in zip(places, colors, strict=True)
            if i < len(some)
        ]
        if hints:
            found.append(Hints(hints, image_size=size))
    return found
