"""Files in a folder and below, linked folders followed once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path


def files_below(
    folder: Path, unreadable: Callable[[OSError], None], *, skip: Path | None = None
) -> Iterator[Path]:
    """Files in a folder and the folders below, by name, but for hidden ones.

    Parameters
    ----------
    folder : Path
    unreadable : callable
        Called for a folder that cannot be entered.
    skip : Path, optional
        A folder, resolved, that is left out.

    Notes
    -----
    A linked folder is entered like any other, but no folder twice, so that loops of links end.
    Links come last: what can be reached without one is found at its own place.
    """
    found: list[Path] = []
    seen = set() if skip is None else {skip}
    waiting = [folder]
    while waiting:
        top = waiting.pop(0)
        if top.resolve() in seen:
            continue
        seen.add(top.resolve())
        for place, names, files in os.walk(top, onerror=unreadable):
            here = Path(place)
            found += [here / name for name in files if not name.startswith(".")]
            inner = [here / name for name in sorted(names) if not name.startswith(".")]
            waiting += [path for path in inner if path.is_symlink()]
            inner = [p for p in inner if not p.is_symlink() and p.resolve() not in seen]
            seen.update(path.resolve() for path in inner)
            names[:] = [path.name for path in inner]
    yield from sorted(found)
