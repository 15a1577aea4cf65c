"""What stands beside an engine file, and whether that engine may be loaded here.

An engine file is native code for one GPU and one version of TensorRT, and says nothing of itself
that could be read before it is loaded. So ``model.engine`` has ``model.engine.json`` beside it, and
no engine is loaded without one whose sha256 is that of the file.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shlex
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ...errors import ModelError
from ...layout import CONTRACT
from ...safe_files import read_limited
from .library import Library, numbers

FORMAT = "hscaunet-engine-1"
_MAX_SIDECAR = 1 << 20
_MAX_ENGINE = 8 << 30

RTX_CAPABILITIES = ((8, 0), (8, 6), (8, 9), (12, 0), (12, 1))
"""Compute capabilities that an engine of TensorRT for RTX, built without naming one, runs on
(its documentation; Turing, 7.5, would have to be named, and is not offered here)."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Sidecar:
    """What is known of an engine file.

    Attributes
    ----------
    flavor : {"tensorrt", "rtx"}
    version : str
        Of the library that built it.
    precision : {"fp32", "fp16", "int8"}
    profiles : tuple of dict
        One for each optimization profile: from the name of each input to its smallest, best and
        largest shape.
    engine_sha256, onnx_sha256 : str
    onnx : str
        The ONNX file that it was built from: its name, or that of a bundled model.
    arguments : tuple of str
        Options of ``python -m export.trt`` that build it again.
    os, machine : str
        Such as "Linux" and "x86_64".
    gpu : str, optional
        Name of the GPU that it was built on; None where there was none.
    compute_capability : (int, int), optional
        Of that GPU; None where the engine is for all that TensorRT for RTX supports.
    version_compatible : bool
        Built to run with later versions of the same major number as well.
    hardware_compatible : {"none", "same", "ampere+"}
        Built for that GPU, for all of its compute capability, or for Ampere and all later ones.
    refit : bool
        Whether its weights can be exchanged.
    convolutions, half, quantized : int
        Convolutions in it, and how many compute in half precision or in 8 bits.
    metadata : dict of str to str
        What the ONNX file said of itself.
    built : str
        When, ISO 8601.
    """

    flavor: str
    version: str
    precision: str
    profiles: tuple[dict[str, tuple[Shape, Shape, Shape]], ...]
    engine_sha256: str
    onnx_sha256: str
    onnx: str
    arguments: tuple[str, ...] = ()
    os: str = field(default_factory=platform.system)
    machine: str = field(default_factory=platform.machine)
    gpu: str | None = None
    compute_capability: tuple[int, int] | None = None
    version_compatible: bool = False
    hardware_compatible: str = "none"
    refit: bool = False
    convolutions: int = 0
    half: int = 0
    quantized: int = 0
    metadata: dict[str, str] = field(default_factory=dict)
    built: str = ""

    def to_json(self) -> bytes:
        """The file's content."""
        return (json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n").encode()


def sidecar_path(engine: Path) -> Path:
    """Where the sidecar of an engine file is."""
    return engine.with_name(f"{engine.name}.json")


def parse(data: bytes) -> Sidecar:
    """Read a sidecar's content.

    Raises
    ------
    ValueError
        If it is none, or of another release.
    """
    try:
        entries = json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(entries, dict) or entries.pop("format", None) != FORMAT:
        raise ValueError(f"it is not of the format {FORMAT}")
    kinds = {"str": str, "str | None": str | None, "bool": bool, "int": int}
    for name in ("profiles", "arguments"):
        if not isinstance(entries.get(name, []), list):
            raise ValueError(f"its {name} are no list")
    # What is quoted in messages, and in commands that people may paste.
    quoted = [entries.get(name) for name in ("version", "onnx", "gpu", "os", "machine", "flavor")]
    for text in (*quoted, *entries.get("arguments", [])):
        if text is not None and not (
            isinstance(text, str) and len(text) < 256 and text.isprintable()
        ):
            raise ValueError("it holds a name that is no text, or too long")
    if not re.fullmatch(r"\d{1,9}(\.\w{1,20}){0,6}", str(entries.get("version"))):
        raise ValueError("its version is none")
    for name, kind in Sidecar.__annotations__.items():
        if name in entries and kind in kinds and not isinstance(entries[name], kinds[kind]):
            raise ValueError(f"its {name} is no {kind}")
    try:
        entries["profiles"] = tuple(
            {
                name: tuple(tuple(int(side) for side in shape) for shape in shapes)
                for name, shapes in profile.items()
            }
            for profile in entries["profiles"]
        )
        if any(len(shapes) != 3 for p in entries["profiles"] for shapes in p.values()):
            raise ValueError("a profile does not have three shapes")
        if entries.get("compute_capability") is not None:
            major, minor = entries["compute_capability"]
            entries["compute_capability"] = (int(major), int(minor))
        entries["arguments"] = tuple(entries.get("arguments", ()))
        metadata = entries.get("metadata", {})
        entries["metadata"] = {str(key): str(value) for key, value in metadata.items()}
        return Sidecar(**entries)
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"an entry is missing, wrong or unknown ({error})") from None


def rebuild(engine: Path, sidecar: Sidecar | None = None, flavor: str = "") -> str:
    """The command that builds an engine anew, for the end of a sentence.

    Parameters
    ----------
    engine : Path
    sidecar : Sidecar, optional
        Of the engine; it says what from and how.
    flavor : str
        Of the library that is to build it.
    """
    onnx, arguments = (sidecar.onnx, sidecar.arguments) if sidecar else ("MODEL.onnx", ())
    words = ["python", "-m", "export.trt", onnx, "-o", str(engine), *arguments]
    if flavor:
        words += ["--flavor", flavor]
    return f"build it on this machine: {shlex.join(words)}"


def read_engine(path: Path) -> tuple[bytes, Sidecar]:
    """An engine file's bytes and its sidecar, if the two belong together.

    Raises
    ------
    ModelError
        If either is missing or damaged, or the sha256 differs.
    """
    beside = sidecar_path(path)
    if path.is_file() and not beside.exists():
        raise ModelError(
            f"{path} has no {beside.name} beside it, and an engine file is native code that is "
            f"never loaded unknown; copy that file too, or {rebuild(path)}."
        )
    content = read_limited(beside, _MAX_SIDECAR, "sidecar of an engine", ModelError)
    try:
        sidecar = parse(content)
    except ValueError as error:
        raise ModelError(
            f"{beside} is no sidecar of an engine ({error}); {rebuild(path)}."
        ) from None
    data = read_limited(path, _MAX_ENGINE, "engine", ModelError)
    if hashlib.sha256(data).hexdigest() != sidecar.engine_sha256:
        raise ModelError(
            f"{path} is not the file that {beside.name} speaks of: its sha256 differs, so it is "
            f"not loaded; copy both again, or {rebuild(path, sidecar, sidecar.flavor)}."
        )
    return data, sidecar


def check_layout(sidecar: Sidecar, path: Path, layouts: tuple[str, ...] = (CONTRACT,)) -> None:
    """Raise `ModelError` unless the engine takes and gives one of these layouts."""
    layout = sidecar.metadata.get("layout")
    if layout not in layouts:
        raise ModelError(
            f"{path} was built from {sidecar.onnx}, whose layout is {layout!r:.60}, not "
            f"{' or '.join(map(repr, layouts))}; export the network with python -m export.onnx and "
            f"{rebuild(path)}."
        )


def check_library(sidecar: Sidecar, path: Path, library: Library) -> None:
    """Raise `ModelError` unless the engine was built for this library and this system."""
    again = rebuild(path, sidecar, library.flavor)
    here = (platform.system(), platform.machine())
    if (sidecar.os, sidecar.machine) != here:
        raise ModelError(
            f"{path} was built for {sidecar.os} {sidecar.machine}, this is {' '.join(here)}; "
            f"{again}."
        )
    if sidecar.flavor != library.flavor:
        raise ModelError(
            f"{path} was built by {sidecar.flavor} {sidecar.version}, but {library.flavor} "
            f"{library.version} is what runs here; {again}."
        )
    if sidecar.version != library.version:
        built, runs = numbers(sidecar.version), numbers(library.version)
        if not (sidecar.version_compatible and built[:1] == runs[:1] and built <= runs):
            raise ModelError(
                f"{path} was built by {library.name} {sidecar.version}, but {library.version} is "
                f"installed; {again}."
            )


def check_gpu(sidecar: Sidecar, path: Path, name: str, capability: tuple[int, int]) -> None:
    """Raise `ModelError` unless the engine was built for this GPU."""
    built = sidecar.compute_capability
    if sidecar.flavor == "rtx" and built is None:
        fits = capability in RTX_CAPABILITIES
    elif sidecar.hardware_compatible == "ampere+":
        fits = capability >= (8, 0)
    elif sidecar.hardware_compatible == "same" or sidecar.flavor == "rtx":
        fits = capability == built
    else:
        fits = capability == built and name == sidecar.gpu
    if not fits:
        where = sidecar.gpu or "GPUs that TensorRT for RTX supports"
        version = "" if built is None else f" (compute capability {built[0]}.{built[1]})"
        raise ModelError(
            f"{path} was built for {where}{version}, this GPU is {name} (compute capability "
            f"{capability[0]}.{capability[1]}); {rebuild(path, sidecar)}."
        )
