"""Pictures of an evaluation: PSNR against the number of hints, and a sheet of photos to look at."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.errors import ColorizationError, MissingDependencyError

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from .method import Method
    from .objects import ObjectPhoto

ANCHORS = {
    "Zhang et al. 2017, on 1000 ImageNet photos": (
        (0, 1, 2, 5, 10, 20, 50, 100, 200, 501),
        (24.43, 25.37, 26.20, 27.39, 28.42, 29.34, 30.42, 31.13, 31.70, 32.14),
    ),
    "its authors' later weights": (
        (0, 1, 2, 5, 10, 20, 50, 100, 200, 501),
        (26.43, 27.08, 27.52, 28.33, 29.15, 29.90, 30.93, 31.69, 32.27, 32.94),
    ),
}
"""Published PSNR (dB) by number of hints under the `zhang` protocol, measured on other photos."""

_FLOORS = ("grey", "Levin 2004", "kernel", "grid")
SHEET_POINTS = 10
"""Hints (`zhang`) that a contact sheet shows."""


def open_matplotlib() -> Any:
    """``matplotlib.pyplot``, drawing into memory.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError:
        raise MissingDependencyError(
            "Plots and sheets need matplotlib: pip install 'hscaunet[plot]'."
        ) from None
    return plt


def write_figure(figure: Figure, path: Path, dpi: int) -> None:
    """Draw a figure into a file, whole or not at all; the kind is that of the name (PNG)."""
    from runtime.safe_files import write_atomically

    drawn = io.BytesIO()
    kind = path.suffix.lstrip(".").lower() or "png"
    figure.savefig(drawn, format=kind, dpi=dpi)
    write_atomically(path, drawn.getvalue())


def plot_points(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """PSNR against the number of hints, a panel for each protocol that has one.

    Parameters
    ----------
    rows : sequence of dict
        Of `hscaunet.evaluation.photos.evaluate`.
    path : Path
        PNG, JPEG, SVG or PDF, by its ending.

    Raises
    ------
    ColorizationError
        If no row has a number of hints, or matplotlib is not installed.
    """
    lines: dict[str, dict[str, dict[int, float]]] = {}
    for row in rows:
        name, _, points = row["protocol"].partition(" N=")
        if points:
            lines.setdefault(name, {}).setdefault(row["method"], {})[int(points)] = row["psnr"]
    if not lines:
        raise ColorizationError("--plot shows PSNR by number of hints: measure zhang or icolorit.")
    plt = open_matplotlib()
    figure, axes = plt.subplots(
        1, len(lines), figsize=(6.5 * len(lines), 4.8), squeeze=False, layout="constrained"
    )
    for axis, (name, methods) in zip(axes[0], lines.items(), strict=True):
        for label, found in methods.items():
            known = label in _FLOORS
            style = {"color": "0.6", "linewidth": 1, "marker": "."} if known else {}
            if known:
                style |= {"linestyle": ("-", "--", ":", "-.", (0, (6, 1)))[_FLOORS.index(label)]}
            else:
                style |= {"linewidth": 2, "marker": "o", "markersize": 4}
            points = sorted(found)
            axis.plot(points, [found[n] for n in points], label=label, **style)
        if name == "zhang":
            for (label, (points, values)), shade in zip(
                ANCHORS.items(), ("#d08a3c", "#b5473c"), strict=True
            ):
                axis.plot(points, values, ":", color=shade, marker="x", markersize=4,
                          linewidth=1, label=label)  # fmt: skip
        axis.set_xscale("symlog", linthresh=1, linscale=0.4)
        ticks = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500)
        axis.set_xticks(ticks, [str(n) for n in ticks])
        axis.set_xticks([], minor=True)
        axis.set_title(f"{name}: {'6x6' if name == 'zhang' else '2x2'} patches")
        axis.set_xlabel("hints")
        axis.set_ylabel("PSNR of 8-bit RGB (dB), mean over the photos")
        axis.grid(color="0.92")
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=8, loc="upper left")
    write_figure(figure, path, 120)
    plt.close(figure)


def _with_hints(L: NDArray[np.float32], ab: Any, mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The grey picture with its hints as discs of their colour."""
    import cv2
    import numpy as np

    from runtime.color import rgb_from_lab

    grey: NDArray[np.uint8] = rgb_from_lab(L, np.zeros((*L.shape, 2), np.float32))
    shown = np.ascontiguousarray(grey)
    # A neutral lightness, so that the disc shows the hue even in the dark.
    bright = rgb_from_lab(np.clip(L, 35, 80).astype(np.float32), ab)
    count, _, _, middles = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    for x, y in middles[1:count]:
        row, column = min(int(y), len(L) - 1), min(int(x), L.shape[1] - 1)
        place, color = (round(float(x)), round(float(y))), bright[row, column].tolist()
        cv2.circle(shown, place, 7, (255, 255, 255), -1, cv2.LINE_AA)
        cv2.circle(shown, place, 5, color, -1, cv2.LINE_AA)
    return shown


def contact_sheet(
    method: Method, photos: Mapping[int, NDArray[np.uint8]], path: Path, *, seed: int = 0
) -> None:
    """Photos in rows: grey, the output without hints, ten hints, the output with them, the truth.

    Parameters
    ----------
    method : Method
    photos : mapping of int to ndarray, shape (H, W, 3), uint8
        All are shown, cut to squares. Their numbers fix the hints, as in the measurement.
    path : Path
        PNG or JPEG, by its ending.
    seed : int
        Of the hints' places.
    """
    import numpy as np

    from runtime.layout import denormalize_ab

    from ..data.photos import center_square
    from .metrics import join, present
    from .protocols import Protocol

    lines = []
    for i, rgb in photos.items():
        protocol = Protocol("zhang", SHEET_POINTS)
        square = center_square(rgb, protocol.size)
        L, x = present(protocol, square, i, seed)
        alone = join(L, method.predict(present(Protocol("zhang", 0), square, i, seed)[1]))
        hint = np.moveaxis(denormalize_ab(x[0, 1:3]).numpy(), 0, -1)
        clicks = _with_hints(L[0, 0].numpy(), hint, (x[0, 3] > 0).numpy())
        grey = join(L, 0 * x[:, 1:3] + x.new_tensor(128 / 255))
        lines.append([grey, alone, clicks, join(L, method.predict(x)), square])
    _draw_sheet(["grey", "no hints", f"{SHEET_POINTS} hints", "output", "photo"], lines, path)


def objects_sheet(
    method: Method, photos: Sequence[ObjectPhoto], path: Path, *, count: int = 12, seed: int = 0
) -> None:
    """Things with one click: grey with the click, without hints, the output, the truth.

    Two cases stand beside each other; every other one has its thing's colour turned.

    Parameters
    ----------
    method : Method
    photos : sequence of ObjectPhoto
    path : Path
        PNG or JPEG, by its ending.
    count : int
        Cases, from photos evenly chosen.
    seed : int
        See `hscaunet.evaluation.objects.cases`.
    """
    import numpy as np

    from runtime.layout import denormalize_ab, normalize_ab

    from .metrics import join
    from .objects import TASKS, cases, predict_alone

    shown: list[list[NDArray[np.uint8]]] = []
    step = max(1, len(photos) // (count + count // 4 + 1))  # some have no thing to click
    for number in range(0, len(photos), step):
        photo, L = photos[number], photos[number].lab[:, :1]
        guess = predict_alone(method, photo)
        task = TASKS[len(shown) % 2]
        case = next((c for c in cases(photo, number, guess, seed) if c.task == task), None)
        if case is None or len(shown) == count:
            continue
        x = case.inputs[1]
        hint = np.moveaxis(denormalize_ab(x[0, 1:3]).numpy(), 0, -1)
        clicks = _with_hints(L[0, 0].numpy(), hint, (x[0, 3] > 0).numpy())
        output = join(L, method.predict(x))
        truth = join(L, normalize_ab(case.truth))
        shown.append([clicks, join(L, normalize_ab(guess)), output, truth])
    if not shown:
        raise ColorizationError("No thing of these photos is worth a click: --sheet has no case.")
    if len(shown) % 2:
        shown.append([np.full_like(picture, 255) for picture in shown[0]])
    lines = [[*shown[i], *shown[i + 1]] for i in range(0, len(shown), 2)]
    _draw_sheet(["one click", "no hints", "output", "truth"] * 2, lines, path)


def _draw_sheet(
    titles: Sequence[str], lines: Sequence[Sequence[NDArray[np.uint8]]], path: Path
) -> None:
    """Pictures in rows and columns, titles above."""
    plt = open_matplotlib()
    side = 1.9
    figure, axes = plt.subplots(
        len(lines),
        len(titles),
        figsize=(side * len(titles), side * len(lines) + 0.3),
        squeeze=False,
        gridspec_kw={"wspace": 0.02, "hspace": 0.02},
    )
    for row, pictures in zip(axes, lines, strict=True):
        for axis, picture in zip(row, pictures, strict=True):
            axis.imshow(picture, interpolation="lanczos")
            axis.set_axis_off()
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=10)
    edge = 0.3 / (side * len(lines) + 0.3)
    figure.subplots_adjust(left=0, right=1, bottom=0, top=1 - edge)
    write_figure(figure, path, 135)
    plt.close(figure)
