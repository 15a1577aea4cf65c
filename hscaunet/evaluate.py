"""Measure a model: ``python -m hscaunet.evaluate MODEL --data FOLDER|TAR``.

PSNR, SSIM and CIEDE2000 on 8-bit RGB under the published protocols, how well hints are kept and how
often one more makes a photo worse, beside what needs no training at all on the same photos and the
same hints.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from typing import Protocol as TypingProtocol

from hscaunet.commands import run_command

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from hscaunet.protocols import Protocol

REPORT_FORMAT = "hscaunet-evaluation-1"
_JUST_NOTICED = 2.3  # distance in Lab that a person just sees, as iColoriT takes it
PICTURES = (".png", ".jpg", ".svg", ".pdf")
FLOORS = ("grey", "levin", "kernel", "grid")


class Method(TypingProtocol):
    """Something that colorizes: a model or a floor."""

    name: str

    def predict(self, x: Tensor) -> Tensor:
        """(N, 4, H, W) to (N, 2, H, W) in the layout of `runtime.layout`."""
        ...


class TorchMethod:
    """A PyTorch network on the device that it is on."""

    def __init__(self, name: str, model: nn.Module) -> None:
        self.name, self.model = name, model
        self.device = next(model.parameters()).device

    def predict(self, x: Tensor) -> Tensor:
        """See `Method`."""
        import torch

        with torch.inference_mode():
            return self.model(x.to(self.device)).float().cpu()


class RuntimeMethod:
    """A model file run by `runtime.Colorizer`."""

    def __init__(self, path: str, device: str = "auto", backend: str = "auto") -> None:
        from runtime import Colorizer

        self.colorizer = Colorizer(path, device=device, backend=backend)
        self.name = f"{Path(path).stem} ({self.colorizer.backend} {self.colorizer.precision})"

    def predict(self, x: Tensor) -> Tensor:
        """See `Method`."""
        import torch

        return torch.from_numpy(self.colorizer.predict(x.numpy()))


def present(
    protocol: Protocol, rgb: NDArray[np.uint8], photo: int, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """A photo as a method under test is shown it.

    Parameters
    ----------
    protocol : Protocol
    rgb : ndarray, shape (S, S, 3), uint8
        S is the protocol's size.
    photo, seed : int
        Fix the hints.

    Returns
    -------
    L : Tensor, shape (1, 1, S, S)
        0..100.
    x : Tensor, shape (1, 4, S, S)
        In the layout of `runtime.layout`.
    """
    import numpy as np
    import torch

    from hscaunet.sampling import pack_input
    from runtime.color import lab_from_rgb

    lab = torch.from_numpy(np.moveaxis(lab_from_rgb(rgb), -1, 0).copy())[None]
    hint, mask = protocol.reveal(lab[:, 1:], photo, seed)
    return lab[:, :1], pack_input(lab[:, :1], hint, mask)


def join(L: Tensor, ab: Tensor) -> NDArray[np.uint8]:
    """The 8-bit RGB picture of L (1, 1, H, W) and a method's ab (1, 2, H, W)."""
    import numpy as np

    from runtime.color import rgb_from_lab
    from runtime.layout import denormalize_ab

    lab_ab = denormalize_ab(ab).clamp(-128, 127)  # as the runtime does
    picture: NDArray[np.uint8] = rgb_from_lab(
        L[0, 0].numpy(), np.moveaxis(lab_ab[0].numpy(), 0, -1)
    )
    return picture


def compare(ours: NDArray[np.uint8], truth: NDArray[np.uint8]) -> dict[str, float]:
    """PSNR (dB) and SSIM of two 8-bit pictures, (H, W, 3)."""
    import numpy as np
    import torch

    from hscaunet.training.losses import psnr, ssim

    pair = torch.from_numpy(np.stack([ours, truth]).astype(np.float32)).permute(0, 3, 1, 2)
    return {
        "psnr": float(psnr(pair[:1], pair[1:])),
        "ssim": float(ssim(pair[:1], pair[1:], 255.0)),
    }


def _mean_ciede2000(ours: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    import numpy as np

    from runtime.color import lab_from_rgb
    from runtime.report import ciede2000

    return float(ciede2000(*(lab_from_rgb(np.ascontiguousarray(p)) for p in (ours, truth))).mean())


def color_difference(ours: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """Mean CIEDE2000 of two 8-bit pictures, (H, W, 3), over every fourth pixel each way."""
    # The mean of some thousand pixels is as good, and CIEDE2000 is slow.
    return _mean_ciede2000(ours[::4, ::4], truth[::4, ::4])


def hint_difference(picture: NDArray[np.uint8], L: Tensor, x: Tensor) -> float:
    """How well hints are kept: mean CIEDE2000 where they lie, NaN without any.

    Between the picture's colour and the hint's own at the input's L, both as 8-bit sRGB shows them.

    Parameters
    ----------
    picture : ndarray, shape (H, W, 3), uint8
    L, x : Tensor
        See `present`.
    """
    mask = (x[0, 3] > 0).numpy()
    if not mask.any():
        return float("nan")
    return _mean_ciede2000(picture[mask][None], join(L, x[:, 1:3])[mask][None])


def hint_range(ab: Tensor, before: Tensor, place: Sequence[int]) -> float:
    """How far a hint spreads: the HPR of iColoriT (2023) for one hint.

    Mean distance in pixels from its place to what it changes by more than 2.3 units of Lab; NaN
    where it changes nothing.

    Parameters
    ----------
    ab, before : Tensor, shape (1, 2, H, W)
        With the hint and without, in the layout of `runtime.layout`.
    place : (int, int)
        Row and column.
    """
    import torch

    changed = ((ab - before)[0] * 255).square().sum(0).sqrt() > _JUST_NOTICED
    rows, columns = torch.nonzero(changed, as_tuple=True)
    distance = ((rows - place[0]).double().square() + (columns - place[1]).square()).sqrt()
    return float(distance.mean()) if len(distance) else float("nan")


def measure(
    method: Method,
    protocol: Protocol,
    rgb: NDArray[np.uint8],
    photo: int,
    seed: int = 0,
    *,
    spread: bool = False,
) -> dict[str, float]:
    """Measure one photo; see `present` for the parameters.

    Parameters
    ----------
    spread : bool
        Measure how far the last hint spreads, too: one run more.

    Returns
    -------
    dict
        ``psnr`` (dB), ``ssim``, ``ciede2000``, ``at_hints`` and ``hpr``; see `compare`,
        `color_difference`, `hint_difference` and `hint_range`.
    """
    from dataclasses import replace

    L, x = present(protocol, rgb, photo, seed)
    ab = method.predict(x)
    picture, reach = join(L, ab), float("nan")
    if spread and protocol.points:
        fewer = replace(protocol, points=protocol.points - 1)
        before = method.predict(present(fewer, rgb, photo, seed)[1])
        place = protocol.places(*rgb.shape[:2], photo, seed)[-1]
        reach = hint_range(ab, before, place.tolist())
    return {
        **compare(picture, rgb),
        "ciede2000": color_difference(picture, rgb),
        "at_hints": hint_difference(picture, L, x),
        "hpr": reach,
    }


def open_model(path: str, device: str = "auto", backend: str = "auto") -> tuple[Method, Any]:
    """Open a checkpoint or an ONNX file; also returns the network, if there is one in PyTorch."""
    from hscaunet.checkpoints import load_checkpoint
    from hscaunet.devices import pick_device

    if Path(path).suffix == ".onnx" or not Path(path).suffix:
        return RuntimeMethod(path, device, backend), None
    place = pick_device(device)
    loaded = load_checkpoint(path)
    # Every run's newest checkpoint is called last.pt: its folder tells them apart.
    name = loaded.metadata.get("name", Path(path).stem)
    if Path(path).suffix != ".safetensors":
        name = "/".join(Path(path).absolute().with_suffix("").parts[-2:])
    return TorchMethod(f"{name} (PyTorch)", loaded.model.to(place)), loaded.model


def evaluate(
    methods: Sequence[Method],
    protocols: Sequence[Protocol],
    photos: Sequence[NDArray[np.uint8]],
    *,
    seed: int = 0,
    spread: bool = False,
) -> list[dict[str, Any]]:
    """Measure every method under every protocol on the same photos and hints.

    Parameters
    ----------
    seed : int
        Of the hints' places.
    spread : bool
        See `measure`.

    Returns
    -------
    list of dict
        ``method``, ``protocol``, the means over photos of what `measure` gives (``at_hints`` and
        ``hpr`` are None where no photo has one), and ``photos``: ``psnr`` and ``ssim`` photo by
        photo.
    """
    from tqdm import tqdm

    from hscaunet.photos import center_square

    rows = []
    bar = tqdm(
        total=len(methods) * len(protocols) * len(photos),
        unit=" pictures",
        disable=None,
        leave=False,
    )
    with bar:
        for protocol in protocols:
            squares = [center_square(rgb, protocol.size) for rgb in photos]
            for method in methods:
                bar.set_description(f"{method.name}, {protocol.label}")
                figures = []
                for i, rgb in enumerate(squares):
                    figures.append(measure(method, protocol, rgb, i, seed, spread=spread))
                    bar.update()
                rows.append(
                    {
                        "method": method.name,
                        "protocol": protocol.label,
                        **{key: _mean([f[key] for f in figures]) for key in figures[0]},
                        "photos": [{k: round(f[k], 5) for k in ("psnr", "ssim")} for f in figures],
                    }
                )
    return rows


def _mean(values: Sequence[float]) -> float | None:
    """The mean of those that are numbers; None of none."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else None


def made_worse(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """On how many photos more hints lower the PSNR.

    Returns
    -------
    list of dict
        For each method and each number of hints with the one measured before: ``method``,
        ``protocol``, ``fewer`` (both labels), ``share`` of the photos.
    """
    found = []
    before: dict[tuple[str, str], dict[str, Any]] = {}
    for more in rows:
        name, _, points = more["protocol"].partition("=")
        fewer = before.get((more["method"], name))
        if points:
            before[more["method"], name] = more
        if fewer:
            pairs = zip(more["photos"], fewer["photos"], strict=True)
            worse = [a["psnr"] < b["psnr"] for a, b in pairs]
            labels = {"protocol": more["protocol"], "fewer": fewer["protocol"]}
            found.append({"method": more["method"], **labels, "share": sum(worse) / len(worse)})
    return found


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
    lines = [["method", *protocols]]
    lines += [[m, *(cells.get((m, p), "") for p in protocols)] for m in methods]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    texts = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]
    texts.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(texts)


def _differences(row: dict[str, Any]) -> str:
    figures = [row.get(key) for key in ("ciede2000", "at_hints")]  # reports of old lack them
    texts = ["-" if f is None else f"{f:.2f}" for f in figures]
    reach = row.get("hpr")
    return " / ".join([*texts, f"{reach:.0f} px"] if reach is not None else texts)


def _floors(names: Sequence[str], model: Any) -> list[Method]:
    from hscaunet.floors import Grey, Grid, Kernel, Levin

    makers: dict[str, Callable[[], Method]] = {
        "grey": Grey,
        "levin": Levin,
        "kernel": Kernel,
        "grid": Grid,
    }
    made = [makers[name]() for name in names]
    if "grid" in names and getattr(model, "form", None) == "guided":
        made.append(Grid(model))
    return made


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m hscaunet.evaluate",
        description="PSNR, SSIM and CIEDE2000 of 8-bit RGB under the published protocols, beside "
        "floors that need no training.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("model", nargs="*", metavar="MODEL",
        help="checkpoints (.pt, .safetensors, the authors' .pth), ONNX files or bundled names; "
        "none measures the floors alone")  # fmt: skip
    add("--data", nargs="+", required=True, metavar="PATH", help="folders or tar files of photos")
    add("--photos", type=int, metavar="N", help="use the first N")
    add("--protocols", nargs="+", choices=("published", "zhang", "icolorit"),
        default=["published", "zhang", "icolorit"], help="how hints are given")  # fmt: skip
    add("--points", nargs="+", type=int, default=[0, 1, 10, 100], metavar="N",
        help="numbers of hints for zhang and icolorit")  # fmt: skip
    add("--floors", nargs="*", choices=FLOORS, default=list(FLOORS),
        help="methods without training beside the models; give none to leave them out")  # fmt: skip
    add("--beside", nargs="*", default=[], metavar="REPORT.json",
        help="show the methods of earlier reports on the same photos and seed too")  # fmt: skip
    add("--seed", type=int, default=0, help="of the hints' places")
    add("--device", default="auto", help="cpu, cuda or auto")
    add(
        "--backend", default="auto", help="engine that runs ONNX files: auto, onnxruntime, openvino"
    )
    add("--hpr", action=argparse.BooleanOptionalAction, default=False,
        help="measure how far the last hint spreads (iColoriT 2023), in a second run")  # fmt: skip
    add("--plot", type=Path, metavar="OUT.png", help="draw PSNR against the number of hints")
    add("--sheet", type=Path, metavar="OUT.jpg",
        help="show photos as grey, hints, output and truth, by the first model")  # fmt: skip
    add("--sheet-photos", type=int, default=8, metavar="N",
        help="how many, evenly chosen")  # fmt: skip
    add("--json", type=Path, metavar="OUT", help="write every figure, photo by photo")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if min(args.points) < 0:
        parser.error("--points must not be negative.")
    if args.sheet_photos < 1:
        parser.error("--sheet-photos must be at least 1.")
    if args.sheet and not args.model:
        parser.error("--sheet shows a model's output: name one.")
    if args.plot and not {"zhang", "icolorit"} & set(args.protocols):
        parser.error("--plot shows PSNR by number of hints: measure zhang or icolorit.")
    for path in (args.plot, args.sheet, args.json):  # now, and not after an hour of measuring
        if path and not path.absolute().parent.is_dir():
            parser.error(f"The folder {path.parent} does not exist; make it first.")
    for path, name in ((args.plot, "--plot"), (args.sheet, "--sheet")):
        if path and path.suffix.lower() not in PICTURES:
            parser.error(f"{name} must end in {', '.join(PICTURES)}.")
    return run_command(lambda: _run(args), "train")


def _run(args: argparse.Namespace) -> None:
    import logging

    from hscaunet.figures import contact_sheet, open_matplotlib, plot_points
    from hscaunet.photos import DataError, load_photos
    from hscaunet.protocols import parse_protocols
    from runtime.files import write_atomically

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if args.plot or args.sheet:
        open_matplotlib()  # not after an hour of measuring
    methods: list[Method] = []
    network = None
    for path in dict.fromkeys(args.model):
        method, opened = open_model(path, args.device, args.backend)
        while method.name in {other.name for other in methods}:
            method.name += "'"
        methods.append(method)
        network = network or opened
    photos = [
        rgb
        for _, rgb in load_photos(
            args.data, short_side=256, skip_grey=False, limit=args.photos, progress="Reading photos"
        )
    ]
    mark = digest(photos, args.seed)
    earlier: list[dict[str, Any]] = []
    for path in args.beside:
        try:
            report = json.loads(Path(path).read_text("utf-8"))
            same = report["format"] == REPORT_FORMAT and report["digest"] == mark
            earlier += report["rows"]
        except (ValueError, KeyError, TypeError):
            raise DataError(f"{path} is no report of this command.") from None
        if not same:
            raise DataError(f"{path} was measured on other photos or another seed; measure again.")
    protocols = parse_protocols(args.protocols, args.points)
    methods += _floors(args.floors, network)
    rows = evaluate(methods, protocols, photos, seed=args.seed, spread=args.hpr)
    measured = {(row["method"], row["protocol"]) for row in rows}
    labels = {protocol.label for protocol in protocols}
    rows += [
        row
        for row in earlier
        if row["protocol"] in labels and (row["method"], row["protocol"]) not in measured
    ]
    print(f"{len(photos)} photos, seed {args.seed}; PSNR (dB) / SSIM of 8-bit RGB, means\n")
    print(table(rows))
    spread = " / HPR, how many pixels the last hint spreads" if args.hpr else ""
    print(f"\nCIEDE2000 of the picture / where the hints are{spread}; means\n")
    print(table(rows, _differences))
    if worse := made_worse(rows):
        print("\nPhotos that more hints make worse\n")
        print(table(worse, lambda w: f"{w['share']:.1%} (from {w['fewer'].split()[-1]})"))
    if args.json:
        report = {
            "format": REPORT_FORMAT,
            "digest": mark,
            "photos": len(photos),
            "seed": args.seed,
            "rows": rows,
        }
        write_atomically(args.json, json.dumps(report).encode())
    if args.plot:
        plot_points(rows, args.plot)
    if args.sheet:
        count = min(args.sheet_photos, len(photos))
        chosen = {i: photos[i] for i in (k * len(photos) // count for k in range(count))}
        contact_sheet(methods[0], chosen, args.sheet, seed=args.seed)


if __name__ == "__main__":
    sys.exit(main())
