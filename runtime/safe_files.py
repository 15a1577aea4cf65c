"""Writing files so that a failure never leaves half of one."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path

from .errors import ColorizationError, first_line


def read_limited(
    path: str | os.PathLike[str],
    limit: int,
    what: str,
    error: type[ColorizationError],
    *,
    pipes: bool = False,
) -> bytes:
    """Bytes of a regular file of at most `limit` bytes; with `pipes`, of a named pipe as well.

    Raises
    ------
    ColorizationError
        Of the class `error`, if it is none, is larger, or cannot be read.
    """
    try:
        path = os.fspath(path)  # a number would be taken for an open file of the application
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise error(f"{path} cannot be read: it is a folder.")
        pipe = pipes and stat.S_ISFIFO(status.st_mode)
        if not stat.S_ISREG(status.st_mode) and not pipe:
            # A pipe could keep us waiting, a device never end.
            raise error(f"{path} cannot be read: it is no regular file.")
        if status.st_size > limit:
            raise error(f"{path} is larger than any {what} ({limit} bytes).")
        with open(path, "rb") as file:
            # One more than there should be: Python makes room for all that is asked for.
            data = file.read(limit + 1 if pipe else status.st_size + 1)
        if len(data) > limit:
            raise error(f"{path} is larger than any {what} ({limit} bytes).")
        return data
    except MemoryError:
        raise error(f"{path} does not fit the memory of this machine.") from None
    except error:
        raise
    except (OSError, ValueError, TypeError) as problem:
        reason = getattr(problem, "strerror", None) or first_line(problem)
        raise error(f"{path!s:.300} cannot be read: {reason}.") from None


def check_folder(path: Path, error: type[ColorizationError]) -> None:
    """Raise `error` unless there is a folder in which `path` can be written."""
    if not path.parent.is_dir():
        raise error(f"The folder {path.parent} does not exist; make it first.")


def check_target(
    path: Path,
    error: type[ColorizationError],
    *,
    inputs: Iterable[str | os.PathLike[str]] = (),
) -> None:
    """Raise `error` unless `path` may be written: the one place that decides.

    Parameters
    ----------
    path : Path
    error : type
        Of the error.
    inputs : iterable of path
        Files that are read; `path` must be none of them, by another name or a link neither.
    """
    if path.is_dir():
        raise error(f"{path} is a folder; name a file to write.")
    check_folder(path, error)
    if not path.exists():
        return
    if not os.access(path, os.W_OK):
        raise error(f"{path} cannot be written: Permission denied.")
    for source in inputs:
        try:
            same = path.samefile(source)
        except (OSError, ValueError):  # there is no such input, which is said when it is read
            continue
        if same:
            raise error(
                f"{source} would be written over itself; name another file, or ask for it by "
                "--in-place."
            )


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path` by way of a temporary file beside it; into pipes and devices directly.

    Raises
    ------
    OSError
        If it cannot be written; an older file of that name is then untouched.
    """
    path = Path(path)
    # Through a link, the file it points to is what is replaced.
    target = path.resolve() if path.is_symlink() else path
    if path.exists() and not path.is_file() and not path.is_dir():
        with open(path, "wb", buffering=0) as stream:
            view = memoryview(data)
            while view:
                view = view[stream.write(view) or 0 :]
        return
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))
    temporary = target.parent / f".hscaunet-{secrets.token_hex(8)}"
    # Opened here rather than by tempfile, which makes files private: the mode is the one that
    # open() gives, and asking for the umask instead would change it for other threads.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    handle = os.open(temporary, flags, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            os.chmod(temporary, target.stat().st_mode & 0o777)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.chmod(temporary, 0o600)  # Windows does not remove what is read-only
            os.unlink(temporary)
        raise
