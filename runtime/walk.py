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
    """
    seen = {folder.resolve()}
    found = []
    for place, names, files in os.walk(folder, onerror=unreadable, followlinks=True):
        here = Path(place)
        names.sort()
        for name in list(names):
            inner = (here / name).resolve()
            if name.startswith(".") or inner in seen or inner == skip:
                names.remove(name)
            seen.add(inner)
        found += [here / name for name in files if not name.startswith(".")]
    yield from sorted(found)
