"""Put trained weights into the packages: ``python -m export.release CHECKPOINT --name NAME``.

Writes safetensors into ``hscaunet/weights`` and the ONNX made of them into ``runtime/models``,
each with its sha256 in the manifest beside it.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hscaunet.commands import run_command
from runtime.errors import ModelError
from runtime.files import write_atomically
from runtime.manifest import DEFAULT_MODEL, MANIFEST, MODELS, sha256_of


def enter(folder: Path, name: str, file: Path, **facts: Any) -> None:
    """Write a model's entry into a folder's manifest."""
    path = folder / MANIFEST
    manifest = json.loads(path.read_text("utf-8")) if path.exists() else {"models": {}}
    manifest["models"][name] = {"file": file.name, "sha256": sha256_of(file), **facts}
    write_atomically(path, (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode())


def release(
    checkpoint: Path,
    name: str,
    weights: Path,
    models: Path,
    *,
    correction: float = 1.0,
    lone_hint: Sequence[float] | None = None,
    lone_near: float | None = None,
    steps: Sequence[int] | None = None,
) -> None:
    """Release a training checkpoint's averaged weights.

    Parameters
    ----------
    checkpoint : Path
    name : str
        Of both files, such as "hscaunet-lite".
    weights, models : Path
        Folders for the safetensors and the ONNX.
    correction : float
        What the last convolution gives of ab is multiplied by this. Below 1 it damps what a guided
        network adds to its interpolation, which a short training overdoes; choose it on photos
        that are not the ones to be reported.
    lone_hint : (float, float), optional
        Of a network with a prior: `hscaunet.prior.Prior.lone_hint`, and by how many times more a
        single hint is doubted than one of many (in place of what was learned). A share below 1 and
        more doubt make fewer photos worse by their first hint.
    lone_near : float, optional
        Of a network with a prior: `hscaunet.prior.Prior.lone_near`, in ab of Lab.
    steps : sequence of int, optional
        Of the diffusion, in place of those that it was trained with.

    Raises
    ------
    ModelError
        If the checkpoint cannot be used.
    ExportError
        If the ONNX differs from PyTorch by more than its tolerance.
    """
    import torch

    from export.onnx import export
    from hscaunet.checkpoints import load_checkpoint, save_release

    loaded = load_checkpoint(checkpoint)
    if correction != 1.0:
        if loaded.model.form != "guided":
            raise ModelError("Only the guided form's correction can be scaled; leave it at 1.")
        last = loaded.model.outc.conv
        # What follows ab in its output is no correction.
        last.load_state_dict(
            {k: torch.cat([v[:2] * correction, v[2:]]) for k, v in last.state_dict().items()}
        )
    if lone_hint is not None:
        prior, (share, doubt) = loaded.model.prior, lone_hint
        if prior is None or not 0 <= share <= 1 or not 0 < doubt < math.inf:
            raise ModelError(
                "A lone hint's share, 0 to 1, and doubt, above 0, are a prior's: leave --lone-hint "
                "out for a network without one."
            )
        prior.lone_hint = share
        with torch.no_grad():
            prior.log_few.fill_(math.log(doubt))
    if lone_near is not None:
        prior = loaded.model.prior
        if prior is None or not 0 <= lone_near < math.inf:
            raise ModelError(
                "--lone-near is a distance, at least 0, from a prior's guess: leave it out for a "
                "network without one."
            )
        prior.lone_near = lone_near
    if steps is not None:
        if not loaded.model.diffuse:
            raise ModelError("This network does not diffuse: leave --steps out.")
        loaded.model = loaded.model.diffusing(steps)
    recipe = loaded.metadata.get("recipe")
    metadata = {
        "name": name,
        "images_seen": loaded.metadata.get("images_seen"),
        "recipe": recipe,
        "correction": correction,
    }
    # Both are made and measured elsewhere first: a failure leaves what is there consistent.
    with tempfile.TemporaryDirectory() as folder:
        new_tensors, new_graph = Path(folder, f"{name}.safetensors"), Path(folder, f"{name}.onnx")
        save_release(new_tensors, loaded.model, metadata)
        export(new_tensors, new_graph, weights="fp16")
        tensors, graph = weights / new_tensors.name, models / new_graph.name
        write_atomically(tensors, new_tensors.read_bytes())
        write_atomically(graph, new_graph.read_bytes())
    facts = {"config": loaded.model.config, "images_seen": metadata["images_seen"]}
    enter(weights, name, tensors, **facts)
    enter(models, name, graph, **facts, weights_sha256=sha256_of(tensors))


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m export.release", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="training checkpoint")
    parser.add_argument("--name", default=DEFAULT_MODEL, help="default: %(default)s")
    parser.add_argument(
        "--correction",
        type=float,
        default=1.0,
        metavar="S",
        help="damp what a guided network adds to its interpolation (default: %(default)s)",
    )
    parser.add_argument(
        "--lone-hint",
        type=float,
        nargs=2,
        metavar=("SHARE", "DOUBT"),
        help="keep this share of what a single hint changes of the guess, and doubt it so many "
        "times more (default: all of it, and as learned)",
    )
    parser.add_argument(
        "--lone-near",
        type=float,
        metavar="AB",
        help="let a single hint nearer than this to the guess change its own place only "
        "(default: as it is in the checkpoint)",
    )
    parser.add_argument(
        "--steps",
        type=int,
        nargs=5,
        metavar="N",
        help="of the diffusion, on means of 16, 8, 4, 2 and 1 pixels (default: as it was trained)",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = build_parser().parse_args(argv)
    return run_command(lambda: _run(args), "export")


def _run(args: argparse.Namespace) -> None:
    from hscaunet.weights import WEIGHTS

    release(
        args.checkpoint,
        args.name,
        WEIGHTS,
        MODELS,
        correction=args.correction,
        lone_hint=args.lone_hint,
        lone_near=args.lone_near,
        steps=args.steps,
    )
    print(f"Released {args.name}; measure it with python -m hscaunet.evaluate and commit.")


if __name__ == "__main__":
    sys.exit(main())
