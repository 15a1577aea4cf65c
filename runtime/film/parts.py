"""The pieces of a film that are done, in a folder beside the output."""

from __future__ import annotations

import contextlib
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ImageError
from ..safe_files import write_atomically
from .container import JOINED
from .encode import Piece

_OURS = re.compile(rf"job|\d{{6}}\.npz|{JOINED}\.\w+|\.hscaunet-[0-9a-f]+")
_DAMAGED = (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile)


class Parts:
    """Pieces of one piece of work; those of another are thrown away.

    Parameters
    ----------
    target : Path
        The output; the folder is ``TARGET.part``.
    job : str
        What makes one piece of work another than the next.

    Raises
    ------
    ImageError
        If the folder cannot be written, or holds what is not of this project.
    """

    def __init__(self, target: Path, job: str) -> None:
        self.folder = target.with_name(target.name + ".part")
        self._refuse_others()
        try:
            if self._job() != job:
                self._empty()
            self.folder.mkdir(exist_ok=True)
            write_atomically(self.folder / "job", job.encode())
        except OSError as error:
            reason = error.strerror or error
            raise ImageError(f"The folder {self.folder} cannot be written: {reason}.") from None
        self.paths: list[Path] = []
        while (path := self._path(len(self.paths))).is_file():
            self.paths.append(path)

    def _refuse_others(self) -> None:
        if self.folder.is_symlink() or (self.folder.exists() and not self.folder.is_dir()):
            raise ImageError(f"{self.folder} is in the way; move it, or name another output.")
        strange = [p.name for p in self._inside() if not _OURS.fullmatch(p.name)]
        if strange:
            raise ImageError(
                f"{self.folder} holds {strange[0]}, which is not of an earlier run; move it, or "
                "name another output."
            )

    def _inside(self) -> list[Path]:
        return sorted(self.folder.iterdir()) if self.folder.is_dir() else []

    def _job(self) -> str:
        with contextlib.suppress(OSError, ValueError):
            return (self.folder / "job").read_text()
        return ""

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.npz"

    def restore(self, work: Any) -> None:
        """Bring work to where the last good piece ends; from the first damaged one on they are
        made again."""
        for number, path in enumerate(self.paths):
            try:
                with np.load(path, allow_pickle=False) as piece:
                    if len(piece["data"]) != piece["sizes"].sum():
                        raise ValueError("its frames are not all there")
                    work.restore(piece)
            except _DAMAGED:
                for later in self.paths[number:]:
                    later.unlink()
                del self.paths[number:]
                if self.paths:
                    with np.load(self.paths[-1], allow_pickle=False) as piece:
                        work.restore(piece)
                return

    def add(self, piece: Piece, work: Any) -> None:
        """Keep a piece, and what going on after it needs."""
        path = self._path(len(self.paths))
        try:
            piece.save(path, work.state())
        except OSError as error:
            reason = error.strerror or error
            raise ImageError(f"{path} cannot be written: {reason}; the rest is kept.") from None
        self.paths.append(path)

    def _empty(self) -> None:
        for path in self._inside():
            if _OURS.fullmatch(path.name):
                path.unlink()

    def remove(self) -> None:
        """Take the folder away, with what is of this project in it."""
        with contextlib.suppress(OSError):
            self._empty()
            self.folder.rmdir()
