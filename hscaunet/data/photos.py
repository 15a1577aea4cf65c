"""Photos from folders and tar files, of every format that the runtime reads."""

from __future__ import annotations

import io
import logging
import lzma
import os
import re
import tarfile
import tempfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from runtime.errors import ColorizationError, ImageError
from runtime.images import READABLE, decode_image
from runtime.walk import files_below

log = logging.getLogger(__name__)

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

SUFFIXES = frozenset(READABLE)
"""Of the picture files that are read: all that the runtime reads."""
MIN_SIDE = 16
# Mean distance of a photo's channels, in bytes, below which it teaches nothing about colour.
GREY_BELOW = 1.0


class DataError(ColorizationError):
    """There are no usable photos where training or evaluation looks for them."""


def iterate_files(sources: Iterable[str | os.PathLike[str]]) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each picture file in folders (recursively, by name) and tar files.

    Raises
    ------
    DataError
        If a source does not exist or is no folder, picture or tar file.
    """
    for source in map(Path, sources):
        if source.is_dir():
            for path in files_below(source, _unreadable):
                if path.suffix.lower() in SUFFIXES and path.is_file():
                    yield from _file(path, path.relative_to(source).as_posix())
        elif source.is_file() and source.suffix.lower() in SUFFIXES:
            yield from _file(source, source.name)
        elif source.is_file():
            try:
                tar = tarfile.open(source)  # noqa: SIM115 - closed below
            except (tarfile.TarError, OSError, EOFError):
                raise DataError(f"{source} is neither a folder nor a tar file.") from None
            with tar:
                yield from _members(tar, source)
        else:
            raise DataError(f"{source} does not exist; give folders or tar files of photos.")


def _file(path: Path, name: str) -> Iterator[tuple[str, bytes]]:
    try:
        yield name, path.read_bytes()
    except OSError as error:
        log.warning("Left out: %s cannot be read: %s.", name, error.strerror)


def _unreadable(error: OSError) -> None:
    log.warning("Left out: the folder %s cannot be entered: %s.", error.filename, error.strerror)


def _members(tar: tarfile.TarFile, source: Path) -> Iterator[tuple[str, bytes]]:
    """Pictures of a tar file, named and in order as those of the folder that it was made of."""
    try:
        members = []
        for member in tar:
            members.append(member)
    except _CUT_SHORT as error:
        log.warning("%s is cut short (%s); going on with what it holds.", source, error)
    found = {_normal(m.name): m for m in members if m.isfile() or m.islnk() or m.issym()}
    dotted = any(m.name.startswith("./") for m in members)  # made inside the folder: none to strip
    names = [n for n in found if Path(n).suffix.lower() in SUFFIXES and not _hidden(n)]
    tops = {n.partition("/")[0] if "/" in n else "" for n in names}
    # "tar cf d.tar d" puts all in d/, where the folder d itself names its files without.
    top = tops.pop() + "/" if len(tops) == 1 and not dotted else ""
    order = sorted(names, key=lambda n: Path(n.removeprefix(top)))
    with _seekable(tar, source, [found[n] for n in order]) as plain:
        for name in order:
            try:
                file = plain.extractfile(found[name])
                if file is not None:
                    yield name.removeprefix(top) if top != "/" else name, file.read()
            except (*_CUT_SHORT, KeyError):  # KeyError: a link to what is not there
                log.warning("Left out: %s of %s is cut short.", name, source)


_CUT_SHORT = (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError)


def _normal(name: str) -> str:
    return name.removeprefix("./")


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


@contextmanager
def _seekable(
    tar: tarfile.TarFile, source: Path, wanted: list[tarfile.TarInfo]
) -> Iterator[tarfile.TarFile]:
    """The same tar file, unpacked for the time being if going back in it would be slow."""
    offsets = [member.offset for member in wanted]
    packed = not isinstance(tar.fileobj, io.BufferedReader)
    if not packed or offsets == sorted(offsets):
        yield tar
        return
    with tempfile.TemporaryFile() as file:
        assert tar.fileobj is not None
        tar.fileobj.seek(0)
        with suppress(*_CUT_SHORT):
            while block := tar.fileobj.read(1 << 20):
                file.write(block)
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r:") as plain:
            yield plain


def source_of(name: str) -> str:
    """Source of a photo by its name: ``food_00042.jpg`` and ``food/42.jpg`` are both "food".

    Its folder, or its file name up to the first underscore or hyphen, or to the number at its end.
    """
    parent, stem = Path(name).parent.name, Path(name).stem
    first, *rest = re.split(r"[_-]", stem)
    return parent or (first if rest else stem.rstrip("0123456789")) or "photos"


def _shrink(rgb: NDArray[np.uint8], short_side: int) -> NDArray[np.uint8]:
    import cv2

    scale = short_side / min(rgb.shape[:2])
    if scale >= 1:
        return rgb
    size = (round(rgb.shape[1] * scale), round(rgb.shape[0] * scale))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


def is_grey(rgb: NDArray[np.uint8]) -> bool:
    """Whether a photo has practically no colour."""
    small = rgb[::4, ::4].astype(np.int16)
    return float((small.max(2) - small.min(2)).mean()) < GREY_BELOW


def load_photos(
    sources: Iterable[str | os.PathLike[str]],
    *,
    short_side: int,
    skip_grey: bool = True,
    limit: int | None = None,
    progress: str | None = None,
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Decode photos in order, several at once, leaving out those that cannot be used.

    Parameters
    ----------
    sources : iterable of path
        Folders, tar files, or single pictures.
    short_side : int
        Larger photos are shrunk to this.
    skip_grey : bool
        Leave out photos without colour, with a line in the log.
    limit : int, optional
        Stop after this many files.
    progress : str, optional
        Title of a progress bar (shown on a terminal only).

    Yields
    ------
    (str, ndarray of shape (H, W, 3), uint8)

    Raises
    ------
    DataError
        If not one photo can be used.
    """

    def read(item: tuple[str, bytes]) -> tuple[str, NDArray[np.uint8] | None, str]:
        name, data = item
        try:
            rgb = _shrink(decode_image(data, name=name), short_side)
        except ImageError as error:
            return name, None, str(error)
        if min(rgb.shape[:2]) < MIN_SIDE:
            return name, None, f"{name} is only {rgb.shape[1]}x{rgb.shape[0]}."
        if skip_grey and is_grey(rgb):
            return name, None, f"{name} is grey."
        return name, rgb, ""

    used = skipped = 0
    bar = tqdm(desc=progress, unit=" photos", disable=None if progress else True, leave=False)
    with ThreadPoolExecutor(os.cpu_count()) as pool, bar:
        for name, rgb, problem in _in_order(pool, read, islice(iterate_files(sources), limit)):
            bar.update()
            if rgb is None:
                skipped += 1
                log.warning("Left out: %s", problem)
            else:
                used += 1
                yield name, rgb
    if not used:
        raise DataError(
            "No usable colour photo was found"
            + (f"; {skipped} files were left out, see above." if skipped else ".")
            + f" Give folders or tar files with {', '.join(sorted(SUFFIXES))} files."
        )


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[_Item], _Result], items: Iterable[_Item]
) -> Iterator[_Result]:
    """Results in the order of the items, with a few items under way and no more in memory."""
    window: deque[Future[_Result]] = deque()
    for item in items:
        window.append(pool.submit(work, item))
        if len(window) >= 32:
            yield window.popleft().result()
    while window:
        yield window.popleft().result()


def center_square(rgb: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize the short side to `size` (area when shrinking, cubic when not), cut the middle."""
    import cv2

    scale = size / min(rgb.shape[:2])
    height, width = (max(size, round(n * scale)) for n in rgb.shape[:2])
    if (height, width) != rgb.shape[:2]:
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        rgb = np.asarray(cv2.resize(rgb, (width, height), interpolation=method), np.uint8)
    top, left = (height - size) // 2, (width - size) // 2
    return rgb[top : top + size, left : left + size]
