"""Which TensorRT is installed: the full library, or the one for RTX."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from ...errors import BackendError, MissingDependencyError

FLAVORS = {"tensorrt": "tensorrt", "rtx": "tensorrt_rtx"}
"""Names of the two, and the modules they come as."""

OLDEST = {"tensorrt": (10, 12), "rtx": (1, 0)}
"""Oldest version that has all that is used here."""

INSTALL = {
    "tensorrt": "pip install 'hscaunet[trt]' (3.7 GB, from NVIDIA's own index)",
    "rtx": "pip install 'hscaunet[rtx]'",
}


@dataclass(frozen=True)
class Library:
    """A TensorRT library that has been imported.

    Attributes
    ----------
    flavor : {"tensorrt", "rtx"}
    module : module
    version : str
    """

    flavor: str
    module: Any
    version: str

    @property
    def name(self) -> str:
        """What people call it."""
        return "TensorRT" if self.flavor == "tensorrt" else "TensorRT for RTX"


def numbers(version: str) -> tuple[int, ...]:
    """The numbers at the front of a version: "10.13.3.9.post1" gives (10, 13, 3, 9)."""
    return tuple(int(n) for n in re.findall(r"\d+", version.partition(".post")[0]))


def installed() -> list[str]:
    """Flavors that are installed, the full library first."""
    return [flavor for flavor, module in FLAVORS.items() if find_spec(module) is not None]


def open_library(flavor: str = "auto") -> Library:
    """Import TensorRT.

    Parameters
    ----------
    flavor : {"auto", "tensorrt", "rtx"}
        "auto" takes the full library if it is installed, else the one for RTX.

    Raises
    ------
    MissingDependencyError
        If it is not installed, or cannot be imported.
    BackendError
        If it is older than what is supported.
    """
    if flavor == "auto":
        flavor = next(iter(installed()), "")
        if not flavor:
            ways = "; ".join(INSTALL.values())
            raise MissingDependencyError(
                f"Neither TensorRT nor TensorRT for RTX is installed: {ways}."
            )
    elif flavor not in FLAVORS:
        raise BackendError(f"There is no flavor {flavor!r}; choose one of auto, tensorrt, rtx.")
    try:
        module = import_module(FLAVORS[flavor])
    except (ImportError, OSError) as error:  # OSError: a shared library that does not load
        raise MissingDependencyError(
            f"{FLAVORS[flavor]} cannot be imported ({error}): {INSTALL[flavor]}."
        ) from None
    version = str(module.__version__)
    if numbers(version) < OLDEST[flavor]:
        wanted = ".".join(map(str, OLDEST[flavor]))
        raise BackendError(
            f"{FLAVORS[flavor]} is of version {version}; at least {wanted} is needed: "
            f"pip install --upgrade {FLAVORS[flavor]}."
        )
    return Library(flavor, module, version)
