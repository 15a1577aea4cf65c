"""What an evaluation says: tables for a person, a JSON report for the next one."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.safe_files import write_atomically

from ..data.photos import DataError
from ..tables import markdown

FORMAT = "hscaunet-evaluation-1"


def digest(photos: Iterable[NDArray[np.uint8]], seed: int) -> str:
    """What two reports must share to be compared: the photos and the seed of the hints."""
    total = hashlib.sha256(str(seed).encode())
    for rgb in photos:
        total.update(rgb.tobytes())
    return total.hexdigest()[:16]


def table(
    rows: Sequence[dict[str, Any]], cell: Callable[[dict[str, Any]], str] | None = None
) -> str:
    """A Markdown table: a line a method, a column a protocol; the means of PSNR / SSIM."""
    cell = cell or (lambda row: f"{row['psnr']:.2f} / {row['ssim']:.4f}")
    protocols = list(dict.fromkeys(row["protocol"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    cells = {(r["method"], r["protocol"]): cell(r) for r in rows}
    lines = [[m, *(cells.get((m, p), "") for p in protocols)] for m in methods]
    return markdown(["method", *protocols], lines, pad=True)


def _differences(row: dict[str, Any]) -> str:
    figures = [row.get(key) for key in ("ciede2000", "at_hints")]  # reports of old lack them
    texts = ["-" if f is None else f"{f:.2f}" for f in figures]
    reach = row.get("hpr")
    return " / ".join([*texts, f"{reach:.0f} px"] if reach is not None else texts)


def tables(rows: Sequence[dict[str, Any]], reach: bool = False) -> str:
    """All that is to be said of rows, as text with Markdown tables.

    Parameters
    ----------
    rows : sequence of dict
        Of `hscaunet.evaluation.photos.evaluate` or of
        `hscaunet.evaluation.objects.evaluate_objects`.
    reach : bool
        Whether the rows say how far a hint spreads.
    """
    from .photos import made_worse

    if "took" in rows[0]:
        return (
            "Things: took / spill (medians) / harmed (share of the cases)\n\n"
            + table(rows, _on_things)
            + "\n\nCases\n\n"
            + table(rows, lambda row: str(row["cases"]))
        )
    spread = " / HPR, how many pixels the last hint spreads" if reach else ""
    said = "PSNR (dB) / SSIM of 8-bit RGB, means\n\n" + table(rows)
    said += f"\n\nCIEDE2000 of the picture / where the hints are{spread}; means\n\n"
    said += table(rows, _differences)
    if worse := made_worse(rows):
        cell: Callable[[dict[str, Any]], str]
        cell = lambda w: f"{w['share']:.1%} (from {w['fewer'].split()[-1]})"  # noqa: E731
        said += "\n\nPhotos that more hints make worse\n\n" + table(worse, cell)
    return said


def _on_things(row: dict[str, Any]) -> str:
    return f"{row['took']:.2f} / {row['spill']:.3f} / {row['harmed']:.2f}"


def read_rows(
    paths: Iterable[str | os.PathLike[str]], mark: str, labels: Iterable[str]
) -> list[dict[str, Any]]:
    """Rows of earlier reports on the same photos and seed, of the protocols with these labels.

    Raises
    ------
    DataError
        If a file is no report, or one on other photos or another seed.
    """
    wanted, rows = set(labels), []
    for path in paths:
        try:
            report = json.loads(Path(path).read_text("utf-8"))
            same = report["format"] == FORMAT and report["digest"] == mark
            rows += [row for row in report["rows"] if row["protocol"] in wanted]
        except (ValueError, KeyError, TypeError):
            raise DataError(f"{path} is no report of this command.") from None
        if not same:
            raise DataError(f"{path} was measured on other photos or another seed; measure again.")
    return rows


def write_report(path: Path, rows: Sequence[dict[str, Any]], mark: str, **facts: Any) -> None:
    """Write every figure, photo by photo, for `read_rows`."""
    report = {"format": FORMAT, "digest": mark, **facts, "rows": list(rows)}
    write_atomically(path, json.dumps(report).encode())
