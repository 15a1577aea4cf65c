"""Hint files: JSON, in the format of docs/hints.md."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import HintError, first_line
from ..look import Look
from ..safe_files import read_limited, write_atomically
from .collection import AnyHint, Hints
from .shapes import MAX_MASK_PIXELS, MAX_SHAPES, Hint, Keep, Region, Stroke, whole

FILE_FORMAT = "hscaunet-hints"
FILE_VERSION = 4
"""Version 1 knew squares only, version 2 strokes and regions; 3 brought limits and the look, 4 the
frames of a film. A file is written as the oldest of them that holds it."""

MAX_FILE_BYTES = 64 << 20


def _row(hint: AnyHint) -> dict[str, Any]:
    if isinstance(hint, Hint):
        return {"x": hint.x, "y": hint.y, "color": hint.hex, "size": hint.size}
    if isinstance(hint, Stroke):
        return {"stroke": hint.points, "width": hint.size, "color": hint.hex}
    if hint.points is not None:
        row: dict[str, Any] = {"polygon": hint.points}
    else:
        assert hint.mask is not None
        high, wide = hint.mask.shape
        x, y = hint.origin
        runs = _runs(hint.mask)
        row = {"mask": {"x": x, "y": y, "width": wide, "height": high, "runs": runs}}
    if isinstance(hint, Keep):
        return {**row, "keep": "grey" if hint.grey else "photo"}
    row["color"] = hint.hex
    return {**row, "only_inside": True} if hint.only_inside else row


def _runs(mask: NDArray[np.bool_]) -> list[int]:
    """Lengths of the runs of False, True, False, ... in reading order."""
    flat = mask.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff([0, *edges.tolist(), flat.size]).tolist()
    return [0, *lengths] if flat[0] else lengths


def _mask(row: Any) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    if not isinstance(row, dict):
        raise HintError('"mask" must hold x, y, width, height and runs.')
    x, y, width, height = (whole(row.get(k), f"mask {k}") for k in ("x", "y", "width", "height"))
    runs = row.get("runs")
    if not isinstance(runs, list) or min(width, height) < 1 or width * height > MAX_MASK_PIXELS:
        raise HintError("The mask lacks its runs, or its size is not that of a mask.")
    if set(map(type, runs)) != {int}:  # as a file of ours has them; else one by one
        runs = [whole(v, "mask run") for v in runs]
    if min(runs, default=-1) < 0 or sum(runs) != width * height:
        raise HintError("The runs of the mask do not add up to its width times its height.")
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, np.array(runs)).reshape(height, width), (x, y)


def _extent(row: dict[str, Any]) -> Any:
    """A hint's size, which strokes in files of before call width."""
    if "size" in row and "width" in row:
        raise HintError('it has "size" and "width"; give one of them.')
    return row.get("size", row.get("width", 1))


def hint_of_row(row: Any) -> AnyHint:
    """A hint of one row of a hint file; or `HintError`."""
    kinds = [k for k in ("stroke", "polygon", "mask") if isinstance(row, dict) and k in row]
    if isinstance(row, dict) and "keep" in row:
        return _keep_of_row(row, kinds)
    if not isinstance(row, dict) or "color" not in row or len(kinds) > 1:
        raise HintError('it needs "color", and at most one of "stroke", "polygon", "mask".')
    color, only_inside = row["color"], row.get("only_inside", False)
    if not kinds:
        if not {"x", "y"} <= row.keys():
            raise HintError('it lacks one of "x", "y".')
        return Hint(row["x"], row["y"], color, _extent(row))
    if kinds == ["stroke"]:
        return Stroke(row["stroke"], color, _extent(row))
    if kinds == ["polygon"]:
        return Region(color, row["polygon"], only_inside=only_inside)
    mask, origin = _mask(row["mask"])
    return Region(color, mask=mask, origin=origin, only_inside=only_inside)


def _keep_of_row(row: dict[str, Any], kinds: list[str]) -> Keep:
    if kinds not in (["polygon"], ["mask"]) or row["keep"] not in ("grey", "photo"):
        raise HintError('"keep" is "grey" or "photo", with one of "polygon" and "mask" beside it.')
    grey = row["keep"] == "grey"
    if kinds == ["polygon"]:
        return Keep(row["polygon"], grey=grey)
    mask, origin = _mask(row["mask"])
    return Keep(mask=mask, origin=origin, grey=grey)


def to_json(hints: Hints) -> str:
    """Write hints as text."""
    return _text([_row(hint) for hint in hints], hints.image_size, hints.look)


def film_to_json(
    frames: Mapping[int, Hints], image_size: tuple[int, int] | None, look: Look
) -> str:
    """Write the hints of a film's frames as text."""
    rows = [{"frame": n, **_row(hint)} for n, hints in frames.items() for hint in hints]
    return _text(rows, image_size, look)


def _text(rows: list[dict[str, Any]], image_size: tuple[int, int] | None, look: Look) -> str:
    version = 2 if any("x" not in row for row in rows) else 1
    if any("keep" in row or "only_inside" in row for row in rows) or not look.plain:
        version = 3
    if any("frame" in row for row in rows):
        version = 4
    document: dict[str, Any] = {"format": FILE_FORMAT, "version": version}
    if image_size is not None:
        document["image"] = {"width": image_size[0], "height": image_size[1]}
    if not look.plain:
        document["look"] = look.to_row()
    # One hint a line, so that a person can read and edit the file.
    head = json.dumps(document, indent=1)[:-2]
    body = ",\n".join("  " + json.dumps(row) for row in rows)
    return f'{head},\n "hints": [\n{body}\n ]\n}}\n' if rows else f'{head},\n "hints": []\n}}\n'


def from_json(text: str | bytes) -> Hints:
    """Read hints from text; see `Hints.from_json`."""
    frames, image_size, look = film_from_json(text)
    later = [number for number in frames if number]
    if later:
        raise HintError(
            f"The hint file is a film's: it has hints on frame {later[0]}. Give it with that film, "
            "or take the hints of other frames out of it."
        )
    return Hints(frames.get(0, ()), image_size=image_size, look=look)


def film_from_json(
    text: str | bytes,
) -> tuple[dict[int, Hints], tuple[int, int] | None, Look]:
    """Read a film's hints from text: of each frame its own, their size, the look.

    Raises
    ------
    HintError
        If it is no hint file.
    """
    try:
        document = json.loads(text)
    except (ValueError, TypeError, RecursionError, MemoryError) as error:
        raise HintError(f"The hint file is not JSON: {error}.") from None
    if not isinstance(document, dict) or document.get("format") != FILE_FORMAT:
        raise HintError(f'The hint file lacks "format": "{FILE_FORMAT}".')
    version = document.get("version")
    if version not in range(1, FILE_VERSION + 1) or isinstance(version, bool):
        raise HintError(
            f"The hint file is of version {version!r:.60}, but this release reads versions up to "
            f"{FILE_VERSION}; install a newer release."
        )
    rows = document.get("hints")
    if not isinstance(rows, list):
        raise HintError('The hint file lacks a list of hints under "hints".')
    image_size = _image_size(document.get("image"))
    look = Look.of_row(document.get("look", {}))
    frames: dict[int, list[AnyHint]] = {}
    shapes = pixels = 0
    for i, row in enumerate(rows):
        try:
            frame = _frame(row)
            pixels += _claimed(row)
            if pixels > MAX_MASK_PIXELS:  # before one is made, however little lies inside
                raise HintError("with it there are more strokes and regions than are read.")
            hint = hint_of_row(row)
            if not isinstance(hint, Hint):
                shapes += 1
                if shapes > MAX_SHAPES:
                    raise HintError("with it there are more strokes and regions than are read.")
            frames.setdefault(frame, []).append(hint)
        except HintError as error:
            raise HintError(f"Hint {i} of the hint file: {error}") from None
        except (MemoryError, OverflowError):
            raise HintError(f"Hint {i} of the hint file is too large.") from None
    made = {n: Hints(hints, image_size=image_size) for n, hints in sorted(frames.items())}
    return made, image_size, look


def _frame(row: Any) -> int:
    """The frame of a film that a row is of; a photo has the first alone."""
    frame = whole(row.get("frame", 0), "frame") if isinstance(row, dict) else 0
    if not 0 <= frame < 1 << 31:
        raise HintError(f'"frame" is a number from 0, not {frame}.')
    return frame


def _claimed(row: Any) -> int:
    """Pixels of a row's mask, by what it says itself."""
    mask = row.get("mask") if isinstance(row, dict) else None
    if not isinstance(mask, dict):
        return 0
    size = mask.get("width"), mask.get("height")
    if not all(isinstance(v, int | float) and abs(v) < 1 << 31 for v in size):
        return 0  # of which no mask is made
    pixels = abs(int(size[0] * size[1]))
    return pixels if pixels <= MAX_MASK_PIXELS else 0  # which is refused for itself


def _mask_pixels(hint: AnyHint) -> int:
    mask = getattr(hint, "mask", None)
    return 0 if mask is None else int(mask.size)


def _image_size(image: Any) -> tuple[int, int] | None:
    if image is None:
        return None
    if not isinstance(image, dict):
        raise HintError('"image" in the hint file must hold "width" and "height".')
    size = whole(image.get("width"), "image width"), whole(image.get("height"), "image height")
    if min(size) < 1 or max(size) >= 1 << 31:
        raise HintError("The image size in the hint file is not that of an image.")
    return size


def save(hints: Hints, path: str | os.PathLike[str]) -> None:
    """Write a hint file; see `Hints.save`."""
    data = to_json(hints).encode()
    shapes = [hint for hint in hints if not isinstance(hint, Hint)]
    pixels = sum(map(_mask_pixels, shapes))
    if len(data) > MAX_FILE_BYTES or len(shapes) > MAX_SHAPES or pixels > MAX_MASK_PIXELS:
        raise HintError(
            f"These hints are more than a hint file may hold ({MAX_FILE_BYTES >> 20} MiB, "
            f"{MAX_SHAPES} strokes and regions); keep dense ones as a picture with a mask."
        )
    try:
        write_atomically(path, data)
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise HintError(f"The hint file {path!s:.300} cannot be written: {reason}.") from None


def load(path: str | os.PathLike[str]) -> Hints:
    """Read a hint file; see `Hints.load`."""
    text = read_limited(path, MAX_FILE_BYTES, "hint file", HintError, pipes=True)
    try:
        return from_json(text)
    except HintError as error:
        raise HintError(f"{path}: {error}") from None
