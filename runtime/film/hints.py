"""Hints of a film: of each key frame its own; their files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import HintError, whole_number
from ..hints import Hints
from ..hints.collection import HintsLike
from ..hints.files import MAX_FILE_BYTES, film_from_json, film_to_json
from ..look import PLAIN, Look
from ..safe_files import read_limited, write_atomically

MAX_FRAME = 1 << 31


class FilmHints(Mapping[int, Hints]):
    """Hints on the frames of a film.

    Parameters
    ----------
    frames : mapping of int to Hints, or Hints, optional
        Number of a frame, from 0, to the hints on it (anything that `Hints` can be made of);
        hints alone are of the first frame.
    image_size : (int, int), optional
        Width and height that the hints are for; the film's own by default.
    look : Look, optional
        Of the whole film.

    Raises
    ------
    HintError
        If a number is no frame's.
    """

    def __init__(
        self,
        frames: Mapping[int, HintsLike] | HintsLike = None,
        *,
        image_size: tuple[int, int] | None = None,
        look: Look = PLAIN,
    ) -> None:
        if not isinstance(frames, Mapping) or any(isinstance(key, str) for key in frames):
            frames = {0: frames}  # a dict with names is one hint
        self._frames: dict[int, Hints] = {}
        for number in sorted(frames):
            hints = frames[number]
            number = whole_number(number, "A frame's number", 0, MAX_FRAME, HintError)
            hints = hints if isinstance(hints, Hints) else Hints.coerce(hints, image_size)
            image_size = image_size or hints.image_size
            look = hints.look if look.plain else look
            if hints:
                self._frames[number] = hints
        self.image_size, self.look = image_size, look

    def __getitem__(self, number: int) -> Hints:
        return self._frames[number]

    def __iter__(self) -> Iterator[int]:
        return iter(self._frames)

    def __len__(self) -> int:
        return len(self._frames)

    def __repr__(self) -> str:
        return f"<FilmHints, {sum(map(len, self.values()))} on {len(self)} frames>"

    def fitted(self, width: int, height: int) -> FilmHints:
        """The same hints for a film of another size."""
        frames = {number: hints.fitted(width, height) for number, hints in self.items()}
        return FilmHints(frames, image_size=(width, height), look=self.look)

    def to_json(self) -> str:
        """Text of a hint file; see docs/hints.md."""
        return film_to_json(self._frames, self.image_size, self.look)

    @classmethod
    def from_json(cls, text: str | bytes) -> FilmHints:
        """Read a hint file's text, of a film or of a photo, whose hints are on the first frame.

        Raises
        ------
        HintError
            If it is no hint file.
        """
        frames, size, look = film_from_json(text)
        return cls(frames, image_size=size, look=look)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a hint file."""
        try:
            write_atomically(path, self.to_json().encode())
        except (OSError, ValueError) as error:
            raise HintError(f"The hint file {path} cannot be written: {error}.") from None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> FilmHints:
        """Read a hint file; see `from_json`."""
        text = read_limited(path, MAX_FILE_BYTES, "hint file", HintError, pipes=True)
        try:
            return cls.from_json(text)
        except HintError as error:
            raise HintError(f"{path}: {error}") from None

    @classmethod
    def coerce(cls, hints: Any, size: tuple[int, int]) -> FilmHints:
        """What a caller gave, for a film of a size (width, height)."""
        if isinstance(hints, str | os.PathLike):
            hints = cls.load(hints)
        made = hints if isinstance(hints, FilmHints) else cls(hints)
        made = made.fitted(*size)
        for number, some in made.items():
            try:
                some.check(size)
            except HintError as error:
                raise HintError(f"Frame {number}: {error}") from None
        return made
