"""`Session`: one photo whose hints a person edits, redone only where something changed."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .color import srgb_from_linear
from .errors import HintError, ImageError, whole_number
from .fullsize.finish import Finish
from .fullsize.picture import Picture, PlanePicture, fit_within, shrunk
from .hint_report import HintReport, hint_report
from .hints import AnyHint, Hints
from .hints.collection import HintsLike
from .hints.shapes import MAX_SHAPES, Hint, Shape
from .inputs import open_input
from .look import Look
from .places import next_places
from .proposals import proposals
from .suggest import suggest_colors
from .view import View

if TYPE_CHECKING:
    from .colorizer import Colorizer
    from .lightness import Lightness

# What undo remembers: so many steps, of so many bytes together.
_UNDO_STEPS, _UNDO_BYTES = 1000, 200_000_000
# Previews that are kept ready: so many sizes, of so many pixels together. An application has one
# or two.
_PREVIEW_SIZES, _PREVIEW_PIXELS = 4, 8_000_000
_PLACES_SIZE = 128
_LAYER_Y = ((60 + 16) / 116) ** 3  # of L = 60, at which the most saturated colours fit


@dataclass(frozen=True, eq=False)
class _State:
    """The hints at one time, and the number by which each is known."""

    hints: Hints
    ids: tuple[int, ...] | range


class Session:
    """A photo opened for editing; made by `Colorizer.open`.

    What depends on the photo alone is computed once. The network runs again only after the hints
    changed. Every method may be called from any thread; many sessions share one engine.

    Parameters
    ----------
    colorizer : Colorizer
    image
        See `Colorizer.colorize`. An array is read again by `render`: do not change it meanwhile.
    size : int, optional
        In place of the Colorizer's own.
    order : {"RGB", "BGR"}
        Of an array's channels; what `render` gives has the same, previews are RGB.
    lightness : Lightness, optional
        How the photo becomes grey.

    Raises
    ------
    ImageError
        If `image` has another dtype or shape.
    """

    def __init__(
        self,
        colorizer: Colorizer,
        image: Any,
        *,
        size: int | None = None,
        order: str = "RGB",
        lightness: Lightness | None = None,
    ) -> None:
        self._colorizer = colorizer
        opened = open_input(image, order, lightness)
        self._give_back = opened.give_back
        self._view = colorizer._view(opened.pixels, size)
        self._picture = self._view.picture
        self._state = _State(Hints(image_size=(self.width, self.height)), ())
        self._undone: list[_State] = []
        self._done: deque[_State] = deque()
        self._held = 0  # bytes of the hints in `_done`
        self._next = 0
        self._ab: tuple[_State, NDArray[np.float32]] | None = None
        self._photo: list[NDArray[np.float32]] | None = None
        self._small: dict[tuple[int, int], PlanePicture] = {}
        self._shown: tuple[_State, tuple[int, int], NDArray[np.uint8]] | None = None
        self._lock = threading.RLock()

    @property
    def width(self) -> int:
        """Of the photo, in pixels."""
        return self._picture.width

    @property
    def height(self) -> int:
        """Of the photo, in pixels."""
        return self._picture.height

    @property
    def hints(self) -> Hints:
        """The hints as they are now."""
        return self._state.hints

    @property
    def ids(self) -> tuple[int, ...]:
        """Numbers of the hints, in their order: what `add` returned."""
        return tuple(self._state.ids)

    def __repr__(self) -> str:
        return f"<Session {self.width}x{self.height}, {len(self.hints)} hints, {self._colorizer!r}>"

    def add(self, hint: AnyHint) -> int:
        """Add a hint on top of the others.

        Returns
        -------
        int
            Its number, for `move`, `replace` and `remove`; never used again.

        Raises
        ------
        HintError
            If it lies outside the photo, or is no hint.
        """
        with self._lock:
            one = self._checked(Hints([hint]))
            if isinstance(one[0], Shape) and self._state.hints.shapes >= MAX_SHAPES:
                raise HintError(
                    f"A photo holds at most {MAX_SHAPES} strokes and regions; join some of them, "
                    "or paint a layer (Hints.from_layer)."
                )
            number, self._next = self._next, self._next + 1
            self._change(_State(self._state.hints + one, (*self._state.ids, number)))
            return number

    def move(self, number: int, x: int, y: int) -> None:
        """Move a hint: its centre, or the first point of a stroke or region, goes to a pixel.

        Raises
        ------
        HintError
            If there is no hint of that number, or it would leave the photo.
        """
        with self._lock:
            self.replace(number, self._state.hints[self._index(number)].moved(x, y))

    def replace(self, number: int, hint: AnyHint) -> None:
        """Put another hint in the place of one, such as the same one in another colour.

        Raises
        ------
        HintError
            If there is no hint of that number, or the new one lies outside the photo.
        """
        with self._lock:
            index = self._index(number)
            self._checked(Hints([hint]))
            self._change(_State(self._state.hints.replaced(index, hint), self._state.ids))

    def remove(self, number: int) -> None:
        """Remove a hint.

        Raises
        ------
        HintError
            If there is no hint of that number.
        """
        with self._lock:
            index = self._index(number)
            ids = tuple(self._state.ids)
            self._change(_State(self._state.hints.without(index), ids[:index] + ids[index + 1 :]))

    @property
    def nbytes(self) -> int:
        """About how much memory it holds beside the photo's own pixels.

        It does not wait for work that is under way.
        """
        shown, ab = self._shown, self._ab
        held = sum(small.nbytes for small in tuple(self._small.values()))  # it may change meanwhile
        held += 0 if shown is None else shown[2].nbytes
        held += 0 if ab is None else ab[1].nbytes
        held += sum(part.nbytes for part in self._photo or [])
        return held + self._held + self._state.hints.nbytes + 3 * self._view.L.nbytes

    def set_hints(self, hints: HintsLike, *, undo: bool = True) -> None:
        """Put these in the place of all hints; one step for `undo`.

        Parameters
        ----------
        hints
            See `Colorizer.colorize`.
        undo : bool
            Whether the step can be taken back. Applications that keep the steps themselves say
            False; then nothing is remembered here, of the steps before neither.

        Raises
        ------
        HintError
            If one lies outside the photo, or they belong to an image of another size.
        """
        hints = Hints.coerce(hints, (self.width, self.height))
        with self._lock:
            here = Hints(image_size=(self.width, self.height)) + self._checked(hints)
            first, self._next = self._next, self._next + len(hints)
            self._change(_State(here, range(first, self._next)))
            if not undo:
                self._done.clear()
                self._held = 0

    def set_look(self, look: Look) -> None:
        """Put another look on the colours; the network does not run again."""
        with self._lock:
            state = _State(self._state.hints.with_look(look), self._state.ids)
            known = self._ab is not None and self._ab[0] is self._state
            self._change(state)
            if known and self._ab is not None:
                self._ab = state, self._ab[1]

    def undo(self) -> bool:
        """Take the last change back; False if there is none."""
        with self._lock:
            if not self._done:
                return False
            self._undone.append(self._state)
            self._state = self._done.pop()
            self._held -= self._state.hints.nbytes
            return True

    def redo(self) -> bool:
        """Make the change again that was taken back last; False if there is none."""
        with self._lock:
            if not self._undone:
                return False
            self._done.append(self._state)
            self._held += self._state.hints.nbytes
            self._state = self._undone.pop()
            return True

    def load_hints(self, path: str | os.PathLike[str]) -> None:
        """Read a hint file in the place of all hints; one for another size of the photo is scaled.

        Raises
        ------
        HintError
            If there is no such file, it is damaged, or does not fit the photo.
        """
        self.set_hints(Hints.load(path).fitted(self.width, self.height))

    def save_hints(self, path: str | os.PathLike[str]) -> None:
        """Write the hints, with the photo's size, to a hint file."""
        self.hints.save(path)

    def preview(self, max_side: int = 1024) -> NDArray[np.uint8]:
        """The colorized photo, no side longer than `max_side`, for the screen.

        Returns
        -------
        ndarray, shape (h, w, 3), uint8
            RGB without alpha; never larger than the photo.

        Raises
        ------
        ImageError
            If `max_side` is no whole number of at least 1.
        """
        size = self._preview_size(max_side)
        with self._lock:
            if self._shown is None or self._shown[:2] != (self._state, size):
                finish = Finish.of(self._state.hints, size[::-1])
                small = self._shrunk(size).join(self._predicted(), finish)
                self._shown = self._state, size, small
            return self._shown[2].copy()

    def grey(self, max_side: int = 1024) -> NDArray[np.uint8]:
        """The photo's lightness at the size of `preview`.

        Returns
        -------
        ndarray, shape (h, w), uint8
            sRGB grey of the same L.

        Raises
        ------
        ImageError
            If `max_side` is no whole number of at least 1.
        """
        size = self._preview_size(max_side)
        with self._lock:
            small = self._shrunk(size)
        return np.ascontiguousarray(small.join(np.zeros((2, *size), np.float32))[..., 1])

    def _preview_size(self, max_side: int) -> tuple[int, int]:
        max_side = whole_number(max_side, "max_side", 1, 1 << 31, ImageError)
        return fit_within(self.height, self.width, max_side)

    def _shrunk(self, size: tuple[int, int]) -> PlanePicture:
        """The photo at a preview's size, remembered."""
        small = self._small.pop(size, None) or shrunk(self._picture, *size)
        self._small[size] = small  # at the end: the one used last
        while len(self._small) > 1 and (
            len(self._small) > _PREVIEW_SIZES
            or sum(h * w for h, w in self._small) > _PREVIEW_PIXELS
        ):
            self._small.pop(next(iter(self._small)))
        return small

    def render(self) -> Any:
        """The colorized photo at full size; as `Colorizer.colorize` gives it."""
        return self._rendering()()

    def _rendering(self) -> Callable[[], Any]:
        """What makes the result of the present hints, whatever is edited meanwhile."""
        with self._lock:
            ab, finish = self._predicted(), Finish.of(self._state.hints)
        return lambda: self._give_back(self._picture.join(ab, finish))

    def report(self) -> HintReport:
        """How well each hint's colour survived."""
        with self._lock:
            hints = self._state.hints
            ab = self._view.flat(self._predicted(), hints)
        return hint_report(self._view.L, ab, hints, self.height, self.width)

    def suggest(self, x: int, y: int, k: int = 5) -> list[tuple[int, int, int]]:
        """Plausible colours for a place; see `runtime.suggest.suggest_colors`.

        Parameters
        ----------
        x, y : int
            Pixel of the photo.
        k : int
            How many, 1 to 16.

        Returns
        -------
        list of (int, int, int)
            RGB at the photo's lightness there, the likeliest first, each clearly another colour.

        Raises
        ------
        HintError
            If the place lies outside the photo, or `k` is no such number.
        """
        k = whole_number(k, "k", 1, 16, HintError)
        place = Hint(x, y, (128, 128, 128))
        with self._lock:
            self._checked(Hints([place]))
            hints = self._state.hints
            ab = self._view.flat(self._predicted(), hints)
        return suggest_colors(
            self._colors, self._view.L, ab, hints, place, (self.height, self.width), k
        )

    def next_places(self, k: int = 5) -> list[tuple[int, int]]:
        """Where another hint would tell the network most; see `runtime.places.next_places`.

        Parameters
        ----------
        k : int
            How many, 1 to 16.

        Returns
        -------
        list of (int, int)
            Pixels (x, y) of the photo, the one that tells most first; perhaps fewer than `k`.

        Raises
        ------
        HintError
            If `k` is no such number.
        """
        k = whole_number(k, "k", 1, 16, HintError)
        with self._lock:
            hints = self._state.hints
        # Dozens of runs, for which half the size is enough; and all on this one photo.
        view = View(self._picture, _PLACES_SIZE)
        x = view.inputs(hints)
        photo = self._colorizer._look(x[:1])

        def run(x: NDArray[np.float32]) -> NDArray[np.float32]:
            return self._colorizer._ab(x, photo)

        # The last is that of all hints, whatever bounds them, as probes will be.
        return next_places(run, view.L, run(x)[-1], hints, (self.height, self.width), k)

    def proposals(self, k: int = 4) -> list[Hints]:
        """Several ways to begin, to choose from; see `runtime.proposals.proposals`.

        Parameters
        ----------
        k : int
            How many, 1 to 8.

        Returns
        -------
        list of Hints
            The first has no hints. Perhaps fewer than `k`.

        Raises
        ------
        HintError
            If `k` is no such number.
        """
        return proposals(self, whole_number(k, "k", 1, 8, HintError))

    def color_layer(self) -> NDArray[np.uint16]:
        """The colours alone at one lightness, at full size.

        A retoucher lays it over the grey photo in the blend mode "Color". What sRGB cannot show at
        that lightness is clipped.

        Returns
        -------
        ndarray, shape (H, W, 3), uint16
            sRGB at L = 60.
        """
        with self._lock:
            ab, finish = self._predicted(), Finish.of(self._state.hints)
        value = np.uint16(round(65535 * float(srgb_from_linear(np.float64(_LAYER_Y)))))
        flat = np.broadcast_to(value, (self.height, self.width))  # no memory
        return Picture(flat, self._picture.threads).join(ab, finish)

    def _checked(self, hints: Hints) -> Hints:
        hints.check((self.width, self.height))
        return hints

    def _index(self, number: int) -> int:
        try:
            return self._state.ids.index(number)
        except ValueError:
            raise HintError(f"There is no hint {number} in this session.") from None

    def _change(self, state: _State) -> None:
        self._done.append(self._state)
        self._held += self._state.hints.nbytes
        while len(self._done) > _UNDO_STEPS or (len(self._done) > 1 and self._held > _UNDO_BYTES):
            self._held -= self._done.popleft().hints.nbytes
        self._undone.clear()
        self._state = state

    def _predicted(self) -> NDArray[np.float32]:
        """ab of the present hints, (2, h, w) or (4, h, w); computed if they changed."""
        if self._ab is None or self._ab[0] is not self._state:
            found = self._colors(self._view.inputs(self._state.hints))
            self._ab = self._state, found.reshape(-1, *found.shape[2:])
        return self._ab[1]

    def _colors(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """ab of this photo with any hints, (N, 4, h, w) to (N, 2, h, w)."""
        if self._photo is None:
            self._photo = self._colorizer._look(x[:1])
        return self._colorizer._ab(x, self._photo)
