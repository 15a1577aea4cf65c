"""Compare two forms of one network: ``python -m export.parity A B [--data PHOTOS]``.

Each may be a checkpoint, an ONNX file on any engine, a bundled model, or a TensorRT engine.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hscaunet.commands import run_command
from hscaunet.tables import columns
from runtime.engines import BACKENDS
from runtime.errors import ModelError

from .checks import TOLERANCE

if TYPE_CHECKING:
    from torch import Tensor

REPORT_FORMAT = "hscaunet-parity-1"
PSNR_CHANGE = 0.05
"""dB of change against the truth, either way, that is allowed where `TOLERANCE` does not apply."""

# From fine to coarse; the coarser of the two decides how a pair is judged.
_ORDER = ("fp32", "fp16", "bf16", "int8")


def _rank(precision: str) -> int:
    return _ORDER.index(precision) if precision in _ORDER else len(_ORDER)


class Side:
    """One of the two: what it is, and how to run it.

    Parameters
    ----------
    text : str
        Path or bundled name, for an ONNX file with ``ENGINE:`` in front where it is not to be the
        one that "auto" takes.
    device, cuda : str
        See `runtime.Colorizer`.
    """

    def __init__(self, text: str, device: str = "auto", cuda: str = "auto") -> None:
        from hscaunet.evaluation.method import TorchMethod, open_model
        from runtime.colorizer import Colorizer
        from runtime.engines import is_engine

        backend, colon, path = text.partition(":")
        if not colon or backend not in (*BACKENDS, "auto"):
            backend, path = "auto", text
        self._colorizer: Colorizer | None = None
        if Path(path).suffix in ("", ".onnx") or is_engine(Path(path)):
            layer = cuda if is_engine(Path(path)) else "auto"
            self._colorizer = Colorizer(path, backend=backend, device=device, cuda=layer)
            one = self._colorizer
            self.name = f"{Path(path).name} ({one.backend} {one.device} {one.precision})"
            # What the file was made for counts too: a graph of fp16 runs in fp32 on a CPU, with
            # weights that were rounded.
            kinds = (one.precision, one.metadata.get("precision", "fp32"))
            self.precision = max(kinds, key=_rank)
            return
        if backend != "auto":
            raise ModelError(f"{path} is a checkpoint, which {backend} does not run; leave it out.")
        method, _ = open_model(path, device)
        assert isinstance(method, TorchMethod)
        self._method, self.name, self.precision = method, method.name, "fp32"

    def takes(self, x: Tensor) -> bool:
        """Whether it runs on inputs of this shape; engines are built for some only."""
        return self._colorizer is None or self._colorizer.takes(tuple(x.shape))

    def predict(self, x: Tensor) -> Tensor:
        """(N, 4, H, W) to (N, 2, H, W); NaN comes back as it is."""
        import numpy as np
        import torch

        if self._colorizer is None:
            return self._method.predict(x)
        # Not `predict`, which refuses to give NaN: here it is to be counted.
        return torch.from_numpy(self._colorizer.raw(np.ascontiguousarray(x.numpy())))


@dataclass(frozen=True)
class Row:
    """How far the two are apart on one group of inputs.

    Attributes
    ----------
    inputs : str
    pictures : int
    largest, mean : float
        Absolute difference of ab, 0..1 scale; infinity where a value is not finite.
    psnr_between : float, optional
        Of the two 8-bit pictures against each other, mean in dB (at most 80).
    psnr_a, psnr_b : float, optional
        Of each against the truth, means in dB.
    nan : int
        Values that are not finite, of both.
    """

    inputs: str
    pictures: int
    largest: float
    mean: float
    psnr_between: float | None
    psnr_a: float | None
    psnr_b: float | None
    nan: int

    @property
    def change(self) -> float | None:
        """dB that the second is better against the truth."""
        return None if self.psnr_a is None or self.psnr_b is None else self.psnr_b - self.psnr_a


def _cases(data: Sequence[str], photos: int, seed: int) -> Iterator[tuple[str, Any, Any, Any]]:
    """Group, L, input, and the true picture if there is one."""
    import numpy as np
    import torch

    from hscaunet.data.photos import center_square, load_photos
    from hscaunet.evaluation.metrics import present
    from hscaunet.evaluation.protocols import Protocol
    from runtime.images import read_image

    from .checks import check_inputs

    for name, given in check_inputs().items():
        yield name, None, torch.from_numpy(np.ascontiguousarray(given)), None
    if data:
        found = load_photos(data, short_side=256, skip_grey=False, limit=photos)
        pictures = [rgb for _, rgb in found]
    else:
        pictures = [read_image(Path(__file__).with_name("sample.jpg"))]
    for protocol in (
        Protocol("zhang", 0), Protocol("zhang", 10), Protocol("zhang", 100), Protocol("published"),
    ):  # fmt: skip
        for i, picture in enumerate(pictures):
            rgb = center_square(picture, protocol.size)
            L, x = present(protocol, rgb, i, seed)
            yield protocol.label, L, x, rgb


def compare_sides(
    a: Side, b: Side, data: Sequence[str] = (), photos: int = 24, seed: int = 0
) -> list[Row]:
    """Run both on the same inputs, leaving out those whose shape one of them was not built for.

    Parameters
    ----------
    data : sequence of str
        Folders or tar files of photos; without any, the one that comes with the exporter.
    photos : int
        How many of them.
    seed : int
        Of the hints' places.
    """
    from tqdm import tqdm

    from hscaunet.evaluation.metrics import compare, join

    groups: dict[str, list[dict[str, Any]]] = {}
    for group, L, x, truth in tqdm(
        _cases(data, photos, seed), unit=" inputs", disable=None, leave=False
    ):
        if not (a.takes(x) and b.takes(x)):
            continue
        pair = [side.predict(x) for side in (a, b)]
        bad = sum(int((~p.isfinite()).sum()) for p in pair)
        difference = (pair[0] - pair[1]).abs()
        entry: dict[str, Any] = {
            "largest": math.inf if bad else float(difference.max()),
            "mean": math.inf if bad else float(difference.mean()),
            "nan": bad,
        }
        if truth is not None and not bad:
            one, two = (join(L, p) for p in pair)
            entry["between"] = compare(one, two)["psnr"]
            entry["a"], entry["b"] = (compare(p, truth)["psnr"] for p in (one, two))
        groups.setdefault(group, []).append(entry)

    def mean(entries: list[dict[str, Any]], key: str) -> float | None:
        values = [e[key] for e in entries if key in e]
        return sum(values) / len(values) if values else None

    return [
        Row(
            inputs=group,
            pictures=len(entries),
            largest=max(e["largest"] for e in entries),
            mean=mean(entries, "mean") or 0.0,
            psnr_between=mean(entries, "between"),
            psnr_a=mean(entries, "a"),
            psnr_b=mean(entries, "b"),
            nan=sum(e["nan"] for e in entries),
        )
        for group, entries in groups.items()
    ]


def judge(rows: Sequence[Row], precision: str, tolerance: float | None = None) -> tuple[bool, str]:
    """Whether the two are the same for people's purposes, and why.

    Parameters
    ----------
    precision : str
        The coarser one of the two.
    tolerance : float, optional
        Largest difference of ab instead of `TOLERANCE`.
    """
    if not rows:
        return False, "no input has a shape that both take"
    bad = sum(row.nan for row in rows)
    if bad:
        return False, f"{bad} values are NaN or infinite"
    if tolerance is None and precision not in TOLERANCE:
        changes = {row.inputs: row.change for row in rows if row.change is not None}
        if not changes:
            return False, "no photo has a shape that both take, so PSNR is not known"
        worst = max(changes, key=lambda name: abs(changes[name]))
        text = f"PSNR changes by {changes[worst]:+.3f} dB at most ({worst})"
        return abs(changes[worst]) <= PSNR_CHANGE, f"{text}; {precision} may by {PSNR_CHANGE} dB"
    limit = TOLERANCE[precision] if tolerance is None else tolerance
    row = max(rows, key=lambda row: row.largest)
    text = f"ab differs by {row.largest:.2e} at most ({row.inputs})"
    return row.largest <= limit, f"{text}; {precision} may by {limit:.0e}"


def table(rows: Sequence[Row]) -> str:
    """The rows for people."""
    head = ("inputs", "n", "max |d ab|", "mean |d ab|", "A to B", "A", "B", "change")
    lines = []
    for row in rows:
        figures = (row.psnr_between, row.psnr_a, row.psnr_b)
        texts = ["" if v is None else f"{v:.2f}" for v in figures]
        change = "" if row.change is None else f"{row.change:+.3f}"
        lines.append(
            (row.inputs, str(row.pictures), f"{row.largest:.2e}", f"{row.mean:.2e}", *texts, change)
        )
    return columns(head, lines)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m export.parity",
        description="Compare two forms of one network. Each is a checkpoint, an ONNX file or "
        "bundled name (ENGINE:FILE picks its engine, such as openvino:lite.onnx), or a TensorRT "
        "engine. "
        f"Allowed: ab within {TOLERANCE['fp32']:.0e} for fp32 and {TOLERANCE['fp16']:.0e} for "
        f"fp16, for bf16 and int8 a PSNR change of {PSNR_CHANGE} dB.",
        epilog="Exit status: 0 the same, 1 not the same or an error, 2 wrong options.",
    )
    add = parser.add_argument
    add("a", metavar="A", help="what is taken to be right")
    add("b", metavar="B", help="what is judged")
    add("--data", nargs="+", default=[], metavar="PATH",
        help="folders or tar files of photos; default: one sample photo")  # fmt: skip
    add("--photos", type=int, default=24, metavar="N", help="use the first N (%(default)s)")
    add("--seed", type=int, default=0, help="of the hints' places")
    add("--tolerance", type=float, metavar="T",
        help="largest difference of ab (0..1 scale) instead of the above")  # fmt: skip
    add("--device", default="auto", help="cpu, cuda or auto (default)")
    add("--cuda", default="auto", help="cuda-python, pycuda or auto (default), for engines")
    add("--json", type=Path, metavar="OUT", help="write the report")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = build_parser().parse_args(argv)
    if args.photos < 1:
        build_parser().error("--photos must be at least 1.")
    passed: list[bool] = []
    return run_command(lambda: passed.append(_run(args)), "export") or int(not all(passed))


def _run(args: argparse.Namespace) -> bool:
    from runtime.safe_files import write_atomically

    a, b = (Side(text, args.device, args.cuda) for text in (args.a, args.b))
    print(f"A: {a.name}\nB: {b.name}\n")
    rows = compare_sides(a, b, args.data, args.photos, args.seed)
    print(table(rows))
    precision = max(a.precision, b.precision, key=_rank)
    good, why = judge(rows, precision, args.tolerance)
    print(f"\n{'the same' if good else 'NOT the same'}: {why}")
    if args.json:
        report = {
            "format": REPORT_FORMAT,
            "a": a.name,
            "b": b.name,
            "precision": precision,
            "same": good,
            "why": why,
            "rows": [
                {
                    # JSON has no infinity.
                    **{k: None if v == math.inf else v for k, v in asdict(row).items()},
                    "change": row.change,
                }
                for row in rows
            ],
        }
        write_atomically(args.json, (json.dumps(report, indent=1) + "\n").encode())
    return good


if __name__ == "__main__":
    sys.exit(main())
