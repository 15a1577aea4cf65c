"""Writing files so that a failure never leaves half of one."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path


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
    temporary = target.parent / f".{target.name[:100]}.{secrets.token_hex(8)}"
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
            os.unlink(temporary)
        raise
