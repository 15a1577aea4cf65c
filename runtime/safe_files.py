"""Writing files so that a failure never leaves half of one."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

from .errors import ColorizationError, first_line


def read_limited(
    path: str | os.PathLike[str], limit: int, what: str, error: type[ColorizationError]
) -> bytes:
    """Bytes of a regular file of at most `limit` bytes.

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
        if not stat.S_ISREG(status.st_mode):  # a pipe could keep us waiting, a device never end
            raise error(f"{path} cannot be read: it is no regular file; use - for standard input.")
        if status.st_size > limit:
            raise error(f"{path} is larger than any {what} ({limit} bytes).")
        with open(path, "rb") as file:
            # One more than there should be: Python makes room for all that is asked for.
            data = file.read(status.st_size + 1)
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


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path` by way of a temporary file beside it.

    Raises
    ------
    OSError
        If it cannot be written; an older file of that name is then untouched.
    """
    path = Path(path)
    # Through a link, the file it points to is what is replaced.
    target = path.resolve() if path.is_symlink() else path
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
