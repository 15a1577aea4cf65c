"""The errors an application can catch, under one base class."""

from __future__ import annotations

import operator
from typing import Any


def whole_number(value: Any, what: str, low: int, high: int, error: type[ColorizationError]) -> int:
    """`value` as an int if it is a whole number of any kind, numpy's too, from `low` to `high`.

    Raises
    ------
    ColorizationError
        Of the class `error`, if it is not.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise error(
            f"{what} must be a whole number of {low} to {high}, not {value!r:.60}."
        ) from None
    if not low <= number <= high:
        shown = str(number) if abs(number) < 10**18 else "one of many digits"
        raise error(f"{what} must be a whole number of {low} to {high}, not {shown}.")
    return number


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


class ArgumentError(BackendError, ValueError):
    """An argument has a value that it cannot have."""


class HintError(ColorizationError, ValueError):
    """A hint lies outside the image, has a bad colour or size, or a hint file is malformed."""


class ImageError(ColorizationError, ValueError):
    """An image has the wrong dtype or shape, is unreadable, or is absurdly large."""


class CutShortError(ImageError):
    """A JPEG or PNG ends before its picture does; ``tolerant=True`` reads what there is of it.

    Attributes
    ----------
    name : str
        What the file is called.
    """

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} is cut short; get the whole file, or read what there is of it with --tolerant "
            "(tolerant=True in Python)."
        )
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return CutShortError, (self.name,)


class ArrayError(ColorizationError, ValueError):
    """An array given to the low-level call has the wrong dtype or shape, or holds NaN."""
