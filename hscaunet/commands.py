"""What the command lines share."""

from __future__ import annotations

import sys
from collections.abc import Callable

from runtime.errors import ColorizationError

_OURS = ("runtime", "hscaunet", "export", "calibration")


def run_command(work: Callable[[], None], extra: str) -> int:
    """Do a command's work; print an error as one sentence.

    Parameters
    ----------
    work : callable
    extra : str
        The extra that brings the packages it imports, such as "train".

    Returns
    -------
    int
        Exit status: 0, or 1 after an error.
    """
    try:
        work()
    except (ColorizationError, FloatingPointError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ImportError as error:
        if (error.name or "").partition(".")[0] in _OURS:
            raise  # a mistake of this project, not a package that is not installed
        # No extra but these brings ONNX Runtime, whose two flavours break each other.
        how = "cpu]' or 'hscaunet[gpu" if error.name == "onnxruntime" else extra
        print(f"error: {error.name} is missing; pip install 'hscaunet[{how}]'.", file=sys.stderr)
        return 1
    return 0
