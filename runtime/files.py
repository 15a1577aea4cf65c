"""Writing files so that a failure never leaves half of one."""

from __future__ import annotations

import contextlib
import os
import tempfile
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
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:100]}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files private; give this one the mode that open() would have given.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, target.stat().st_mode if target.exists() else 0o666 & ~mask)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
