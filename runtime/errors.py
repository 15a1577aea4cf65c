"""The errors an application can catch, under one base class."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """What another library's exception says, short enough for a sentence."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class ColorizationError(Exception):
    """Base of every error that this project raises on purpose.

    The message is a sentence that says what is wrong and what to do next.
    """


class ModelError(ColorizationError):
    """A model file is missing, damaged, or not a network of this project."""


class MissingDependencyError(ColorizationError, ImportError):
    """An optional package is not installed; the message names the ``pip install``."""


class BackendError(ColorizationError):
    """The engine or device that was asked for is not there, or it failed to run."""


class HintError(ColorizationError, ValueError):
    """A hint lies outside the image, has a bad colour or size, or a hint file is malformed."""


class ImageError(ColorizationError, ValueError):
    """An image has the wrong dtype or shape, is unreadable, or is absurdly large."""


class ArrayError(ColorizationError, ValueError):
    """An array given to the low-level call has the wrong dtype or shape, or holds NaN."""
