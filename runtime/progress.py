"""A line of progress on a terminal; nothing elsewhere."""

from __future__ import annotations

import contextlib
import shutil
import time
from typing import TextIO


class Bar:
    """A line of progress on a terminal; nothing elsewhere."""

    def __init__(self, total: int, stream: TextIO) -> None:
        self.total, self.stream, self.count, self.name = total, stream, 0, ""
        self.live = total > 1 and stream.isatty()
        self.started = time.monotonic()

    def show(self, name: str) -> None:
        """Say what is worked on."""
        self.name = name
        if self.live:
            width = shutil.get_terminal_size().columns
            done = 24 * self.count // max(1, self.total)
            seconds = time.monotonic() - self.started
            rate = f"{seconds / self.count:.1f} s each  " if self.count else ""
            line = f"[{'#' * done}{'.' * (24 - done)}] {self.count}/{self.total}  {rate}{name}"
            self._say("\r" + line[: width - 1].ljust(width - 1))

    def advance(self, count: int = 1) -> None:
        """Say that some are done."""
        self.count += count
        self.show(self.name)

    def write(self, text: str) -> None:
        """A line of text above it."""
        self._clear()
        self._say(text + "\n")
        self.show(self.name)

    def close(self) -> None:
        """Take it away."""
        self._clear()

    def _clear(self) -> None:
        # Blanks, not an escape sequence: Windows consoles print those.
        if self.live:
            self._say("\r" + " " * (shutil.get_terminal_size().columns - 1) + "\r")

    def _say(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody listens; the work goes on
            self.stream.write(text)
            self.stream.flush()
