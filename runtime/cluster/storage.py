"""Folders on disks and in object stores, by fsspec: what is in them, reading and writing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import ArgumentError, ImageError, MissingDependencyError, first_line
from ..safe_files import read_limited, write_atomically
from ..walk import files_below


class Storage:
    """A folder of any file system that fsspec knows: a path, ``s3://bucket/folder``, ...

    Parameters
    ----------
    url : str

    Raises
    ------
    ArgumentError
        If there is no such kind of file system here.
    """

    def __init__(self, url: str) -> None:
        try:
            import fsspec
        except ImportError:
            raise MissingDependencyError(
                'Folders of millions need Ray; install it: pip install "hscaunet[ray]".'
            ) from None
        self.url = url
        try:
            self._fs, root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError, OSError) as error:
            raise ArgumentError(f"{url} cannot be opened: {first_line(error)}.") from None
        self._root = str(root).rstrip("/")
        kinds = self._fs.protocol
        self._local = "file" in ((kinds,) if isinstance(kinds, str) else kinds)

    def names(self, unreadable: Callable[[OSError], None] | None = None) -> list[str]:
        """Of all files below, with / between folders, in order; hidden ones are left out.

        Parameters
        ----------
        unreadable : callable, optional
            Called for a folder on a disk that cannot be entered.

        Raises
        ------
        ArgumentError
            If there is no such folder.
        """
        try:
            if not self._fs.isdir(self._root):
                raise ArgumentError(f"There is no folder {self.url}.")
            if self._local:  # linked folders too, each once
                root = Path(self._root)
                walked = files_below(root, unreadable or (lambda error: None))
                return sorted(path.relative_to(root).as_posix() for path in walked)
            found = self._fs.find(self._root)
        except OSError as error:
            raise ArgumentError(f"{self.url} cannot be read: {first_line(error)}.") from None
        names = (path[len(self._root) + 1 :] for path in found)
        # Keys of an object store may have any name; those that would leave the folder are none.
        return sorted(n for n in names if not any(p.startswith(".") or not p for p in n.split("/")))

    def below(self, other: Storage) -> str:
        """Name of this folder within another, with / at its end; "" if it does not lie there."""
        same = type(self._fs) is type(other._fs)
        inside = same and self._root.startswith(f"{other._root}/")
        return self._root[len(other._root) + 1 :] + "/" if inside else ""

    def written(self) -> set[str]:
        """Names of the files below; none if there is no such folder yet.

        Raises
        ------
        ArgumentError
            If there is a file of that name.
        """
        if self._fs.isfile(self._root):
            raise ArgumentError(f"{self.url} is a file; name a folder.")
        return set(self.names()) if self._fs.isdir(self._root) else set()

    def read(self, name: str, limit: int) -> bytes:
        """A file of at most `limit` bytes; `OSError` if it cannot be read, `ValueError` if it is
        longer."""
        if self._local:
            return read_limited(f"{self._root}/{name}", limit, "file", ImageError)
        with self._fs.open(f"{self._root}/{name}", "rb") as file:
            data: bytes = file.read(limit + 1)
        if len(data) > limit:
            raise ValueError(f"it is larger than {limit >> 20} MiB")
        return data

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        return bool(self._fs.exists(f"{self._root}/{name}"))

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole or not at all."""
        path = f"{self._root}/{name}"
        self._fs.makedirs(str(PurePosixPath(path).parent), exist_ok=True)
        if self._local:
            write_atomically(path, data)
        else:
            self._fs.pipe_file(path, data)  # an object store shows an object once it is whole

    def remove(self, name: str) -> None:
        """Take a file away, if it is there."""
        if self.exists(name):
            self._fs.rm_file(f"{self._root}/{name}")

    def __reduce__(self) -> tuple[Any, ...]:
        return Storage, (self.url,)
