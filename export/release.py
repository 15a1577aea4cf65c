"""Put trained weights into the packages: ``python -m export.release CHECKPOINT --name NAME``.

Writes the ONNX file into ``runtime/models`` and what only training needs beside its weights
(BatchNorm's statistics) as safetensors into ``hscaunet/weights``, each with its sha256 in the
manifest beside it. The convolutions' numbers are kept once, in the ONNX file.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hscaunet.commands import run_command
from runtime.errors import ModelError
from runtime.models.manifest import DEFAULT_MODEL, MANIFEST, MODELS, sha256_of
from runtime.safe_files import write_atomically

if TYPE_CHECKING:
    from hscaunet.checkpoints import Checkpoint


def enter(folder: Path, name: str, file: Path, **facts: Any) -> None:
    """Write a model's entry into a folder's manifest."""
    path = folder / MANIFEST
    manifest = json.loads(path.read_text("utf-8")) if path.exists() else {"models": {}}
    manifest["models"][name] = {"file": file.name, "sha256": sha256_of(file), **facts}
    write_atomically(path, (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode())


def mean_of(checkpoints: Sequence[Path]) -> Checkpoint:
    """One network whose weights are the mean of those of several runs from one start.

    Such a mean is often better than each (Wortsman 2022, "Model soups"), if the runs stayed near
    each other: measure it.

    Raises
    ------
    ModelError
        If one cannot be used, or they are not of one network.
    """
    from hscaunet.checkpoints import load_checkpoint

    first, *others = (load_checkpoint(path) for path in checkpoints)
    mean = first.model.state_dict()
    for path, other in zip(checkpoints[1:], others, strict=True):
        state = other.model.state_dict()
        if other.model.config != first.model.config or state.keys() != mean.keys():
            raise ModelError(f"{path} is not of the network of {checkpoints[0]}; give one of them.")
        for key, value in state.items():
            if value.is_floating_point():
                mean[key] += value
    for value in mean.values():
        if value.is_floating_point():
            value /= len(checkpoints)
    first.model.load_state_dict(mean)
    return first


def release(checkpoints: Path | Sequence[Path], name: str, weights: Path, models: Path) -> None:
    """Release a training checkpoint's averaged weights, or the mean of those of several.

    Parameters
    ----------
    checkpoints : Path or sequence of Path
    name : str
        Of both files, such as "hscaunet-lite".
    weights, models : Path
        Folders for the safetensors and the ONNX.

    Raises
    ------
    ModelError
        If the checkpoint cannot be used.
    ExportError
        If the ONNX differs from PyTorch by more than its tolerance.
    """
    from hscaunet.checkpoints import save_release, share_weights

    from .onnx import export

    loaded = mean_of([checkpoints] if isinstance(checkpoints, Path) else checkpoints)
    metadata = {
        "name": name,
        "images_seen": loaded.metadata.get("images_seen"),
        "recipe": loaded.metadata.get("recipe"),
    }
    # Both are made and measured elsewhere first: a failure leaves what is there consistent.
    with tempfile.TemporaryDirectory() as folder:
        new_tensors, new_graph = Path(folder, f"{name}.safetensors"), Path(folder, f"{name}.onnx")
        save_release(new_tensors, loaded.model, metadata)
        export(new_tensors, new_graph, weights="fp16")
        tensors, graph = weights / new_tensors.name, models / new_graph.name
        # Each number once: the ONNX file holds the convolutions, the safetensors the rest.
        write_atomically(tensors, share_weights(new_tensors, new_graph))
        write_atomically(graph, new_graph.read_bytes())
    facts = {"config": loaded.model.config, "images_seen": metadata["images_seen"]}
    enter(weights, name, tensors, **facts)
    enter(models, name, graph, **facts)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m export.release", description=__doc__)
    add = parser.add_argument
    add("checkpoints", type=Path, nargs="+", metavar="CHECKPOINT",
        help="training checkpoint; of several, the mean of their weights")  # fmt: skip
    add("--name", default=DEFAULT_MODEL, help="default: %(default)s")
    add("--out", type=Path, metavar="TREE", help="source tree whose packages get them (this one)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = build_parser().parse_args(argv)
    return run_command(lambda: _run(args), "export")


def _run(args: argparse.Namespace) -> None:
    from hscaunet.weights import WEIGHTS

    weights, models = WEIGHTS, MODELS
    if args.out is not None:
        weights, models = args.out / "hscaunet" / "weights", args.out / "runtime" / "models"
    for folder in (weights, models):
        if not (folder / MANIFEST).is_file() or "site-packages" in folder.parts:
            raise ModelError(
                f"{folder} is no folder of a source tree of this project; run this in a checkout, "
                "or name one with --out."
            )
    release(args.checkpoints, args.name, weights, models)
    print(f"Released {args.name}; measure it with python -m hscaunet.evaluate and commit.")


if __name__ == "__main__":
    sys.exit(main())
