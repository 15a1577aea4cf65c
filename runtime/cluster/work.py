"""What is to be done, and the actor that does it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from ..errors import ColorizationError
from ..folders import hint_names, unmatched
from ..hints import Hints
from ..hints.files import MAX_FILE_BYTES as MAX_HINT_BYTES
from ..images import MAX_FILE_BYTES, MAX_PIXELS, decode_photo
from ..images.photo import FORMATS, READABLE
from .storage import Storage

if TYPE_CHECKING:
    from ..images import Photo

# Photos that are colorized together have at most so many pixels.
_PIXELS_TOGETHER = 32_000_000


@dataclass
class Todo:
    """What of a folder is to be colorized.

    Attributes
    ----------
    rows : list of dict
        Of each photo: its name, its result's, its hint file's ("" if it has none).
    done : int
        Results that were there already.
    refused : list of (str, str)
        Photos that are left out, and why.
    others : int
        Files that are no pictures by their names.
    notes : list of str
    """

    rows: list[dict[str, str]] = field(default_factory=list)
    done: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)
    others: int = 0
    notes: list[str] = field(default_factory=list)


def plan(photos: Storage, out: Storage, hints: Storage | None, extension: str | None) -> Todo:
    """List a folder once, and what is there of its results."""
    todo = Todo()
    there = out.written()
    hint_files = [] if hints is None else [n for n in hints.names() if _is_hints(n)]
    exact, any_case = set(hint_files), {n.lower(): n for n in reversed(hint_files)}
    used: set[str] = set()
    taken: dict[str, str] = {}
    own = out.below(photos)
    closed: list[OSError] = []
    for name in photos.names(closed.append):
        place = PurePosixPath(name)
        if own and name.startswith(own):
            continue  # results of an earlier run
        if place.suffix.lower() not in READABLE:
            todo.others += 1
            continue
        ending = place.suffix if place.suffix.lower() in FORMATS else ".png"
        target = place.with_suffix(extension or ending).as_posix()
        first = taken.setdefault(target.lower(), name)
        if first != name:
            todo.refused.append((name, f"its result {target} would be that of {first} too."))
            continue
        file = next(
            (w if w in exact else any_case[w.lower()]
             for w in hint_names(place) if w.lower() in any_case),
            "",
        )  # fmt: skip
        used.add(file)
        if target in there:
            todo.done += 1
        else:
            todo.rows.append({"photo": name, "target": target, "hints": file})
    todo.refused += [(str(e.filename), f"cannot be entered: {e.strerror}.") for e in closed]
    left = sorted(exact - used)
    if left:
        todo.notes.append(unmatched(left))
    return todo


def _is_hints(name: str) -> bool:
    return name.lower().endswith(".json")


class Worker:
    """Colorizes batches of rows of a `Todo`; Ray makes one in each actor.

    Parameters
    ----------
    photos, out : str
        Folders.
    hints : str or None
    model : dict
        Arguments of `Colorizer`.
    quality : int or None
    metadata : bool
        Whether what lies beside the pixels is carried over.
    """

    def __init__(
        self,
        photos: str,
        out: str,
        hints: str | None,
        model: dict[str, Any],
        quality: int | None = None,
        metadata: bool = True,
    ) -> None:
        from ..colorizer import Colorizer
        from ..results import Settings

        self._photos, self._out = Storage(photos), Storage(out)
        self._hints = None if hints is None else Storage(hints)
        self._colorizer = Colorizer(**model)
        self._settings = Settings(quality=quality, metadata=metadata)

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, list[Any]]:
        """Colorize a batch; of each photo what became of it."""
        rows = [
            dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)
        ]
        results: list[dict[str, Any]] = []
        for group in self._groups(rows, results):
            results += self._colorized(group)
        keys = ("photo", "error", "notes", "hinted", "seconds", "read", "written", "worker")
        return {key: [one[key] for one in results] for key in keys}

    def _groups(
        self, rows: list[dict[str, str]], results: list[dict[str, Any]]
    ) -> Iterator[list[tuple[dict[str, Any], Photo, Hints]]]:
        """Photos with their hints, as many together as fit; those that fail go into `results`."""
        group: list[tuple[dict[str, Any], Photo, Hints]] = []
        pixels = 0
        for row in rows:
            result = {
                "photo": row["photo"], "target": row["target"], "error": "", "notes": "",
                "hinted": False, "seconds": 0.0, "read": 0, "written": 0, "worker": os.getpid(),
            }  # fmt: skip
            began = time.perf_counter()
            try:
                if self._out.exists(row["target"]):  # by an actor that died before it said so
                    results.append(result)
                    continue
                photo, hints = self._opened(row, result)
            except Exception as error:  # of any library; the photos after it are not to blame
                results.append(_failed(result, error))
                continue
            result["seconds"] = time.perf_counter() - began
            high, wide = photo.pixels.shape[:2]
            if group and pixels + high * wide > _PIXELS_TOGETHER:
                yield group
                group, pixels = [], 0
            group.append((result, photo, hints))
            pixels += high * wide
        if group:
            yield group

    def _opened(self, row: dict[str, str], result: dict[str, Any]) -> tuple[Photo, Hints]:
        data = self._photos.read(row["photo"], MAX_FILE_BYTES)
        result["read"] = len(data)
        photo = decode_photo(data, name=row["photo"], max_pixels=MAX_PIXELS)
        high, wide = photo.pixels.shape[:2]
        if not row["hints"] or self._hints is None:
            return photo, Hints()
        text = self._hints.read(row["hints"], MAX_HINT_BYTES)
        try:
            hints = Hints.from_json(text).fitted(wide, high)
            hints.check((wide, high))
        except ColorizationError as error:
            raise type(error)(f"{row['hints']}: {error}") from None
        result["hinted"] = len(hints) > 0
        return photo, hints

    def _colorized(
        self, group: list[tuple[dict[str, Any], Photo, Hints]]
    ) -> Iterator[dict[str, Any]]:
        began = time.perf_counter()
        made: list[Any]
        try:
            made = self._colorizer.batch([p.pixels for _, p, _ in group], [h for *_, h in group])
        except Exception:  # of one of them: find out which
            made = [None] * len(group)
        shared = (time.perf_counter() - began) / len(group)
        for (result, photo, hints), colored in zip(group, made, strict=True):
            began = time.perf_counter()
            try:
                if colored is None:
                    colored = self._colorizer.colorize(photo.pixels, hints)
                self._write(result, colored, photo, hints)
            except Exception as error:  # whatever it is, the photos after it are not to blame
                _failed(result, error)
            result["seconds"] += shared + time.perf_counter() - began
            yield result

    def _write(self, result: dict[str, Any], colored: Any, photo: Photo, hints: Hints) -> None:
        from ..results import encoded

        notes = [*photo.notes]
        ending = PurePosixPath(result["target"]).suffix
        data = encoded(ending, colored, photo, hints, self._colorizer, self._settings, notes)
        self._out.write(result["target"], data)
        result["written"], result["notes"] = len(data), " ".join(notes)


def _failed(result: dict[str, Any], error: BaseException) -> dict[str, Any]:
    text = str(error) if isinstance(error, ColorizationError) else f"{result['photo']}: {error}"
    result["error"] = text or type(error).__name__
    return result
