"""``python -m runtime.studio [PHOTO|FOLDER|FILM]``: a page where a click colours a thing."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import logging
import os
import secrets
import socket
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from ..errors import ColorizationError, ImageError, MissingDependencyError

_ADDRESS = "127.0.0.1"
_PORT = 8642


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    from .. import __version__

    parser = argparse.ArgumentParser(
        prog="python -m runtime.studio",
        description="Open a page on this machine in which photos are colorized by clicks. The same "
        "server is an HTTP interface for applications (docs/studio.md).",
    )
    add = parser.add_argument
    add("photos", nargs="*", metavar="PHOTO|FOLDER|FILM",
        help="what the page offers when it opens; of a film frames to put hints on")  # fmt: skip
    add("--host", default=_ADDRESS, help=f"address to listen at (default {_ADDRESS}, this machine)")
    add("--port", type=int, default=None, help=f"default {_PORT}, or another if that is taken")
    add("--no-browser", action="store_true", help="only print the page's address")
    add("--token", metavar="SECRET", default=os.environ.get("HSCAUNET_TOKEN"),
        help="what clients must show; 'new' makes one. Another address than this machine's own "
        "needs one. Default: the environment's HSCAUNET_TOKEN, if it is set")  # fmt: skip
    add("--model", help="bundled name or model file (default: the bundled model)")
    add("--backend", default="auto", help="auto (default), onnxruntime, openvino or tensorrt")
    add("--device", default="auto", help="auto (default), cpu or cuda")
    add("--threads", type=int, metavar="N", help="CPU threads (default: all cores)")
    add("--memory", type=int, default=3072, metavar="MIB", help="for open photos (default 3072)")
    add("--max-pixels", type=int, metavar="N", default=100_000_000,
        help="largest photo (default 100 million pixels)")  # fmt: skip
    add("-v", "--verbose", action="store_true", help="log each request")
    add("--version", action="version", version=f"hscaunet {__version__}")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.port is not None and not 0 <= args.port < 65536:
        parser.error("--port must be 0 (any) to 65535.")
    if args.memory < 64 or args.max_pixels < 1:
        parser.error("--memory must be at least 64, --max-pixels at least 1.")
    if args.token is not None and args.token != "new" and len(args.token) < 8:
        parser.error("--token must have at least 8 characters, or be the word new.")
    if args.token is not None and not (args.token.isascii() and args.token.replace("-", "")
                                       .replace("_", "").isalnum()):  # fmt: skip
        parser.error("--token may have letters, digits, - and _ only.")
    level = logging.INFO if args.verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(message)s")
    try:
        return serve(args)
    except ColorizationError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def serve(args: argparse.Namespace) -> int:
    """Open the model, listen, and show the page."""
    for package in ("starlette", "uvicorn", "python_multipart", "prometheus_client"):
        if importlib.util.find_spec(package) is None:
            raise MissingDependencyError(
                f'The studio needs {package}; install it: pip install "hscaunet[studio]".'
            )
    from .guard import LOOPBACK

    if args.host not in LOOPBACK and args.token is None:
        raise ColorizationError(
            f"{args.host} can be reached from other machines; add --token new, or a secret of your "
            "own."
        )
    with tempfile.TemporaryDirectory(prefix="hscaunet-studio-") as folder:
        files, frames = offers_of(args.photos, Path(folder))
        return _serve(args, files, frames)


def _serve(args: argparse.Namespace, files: list[Path], frames: dict[Path, tuple[str, int]]) -> int:
    import uvicorn

    from ..colorizer import Colorizer
    from .app import make_app
    from .guard import LOOPBACK
    from .store import Limits

    own = args.host in LOOPBACK
    token = secrets.token_urlsafe(24) if args.token == "new" else args.token
    colorizer = Colorizer(
        args.model, backend=args.backend, device=args.device, threads=args.threads
    )
    limits = Limits(pixels=args.max_pixels, memory=args.memory << 20)
    app = make_app(
        colorizer,
        limits=limits,
        files=files,
        frames=frames,
        hosts=LOOPBACK if own else None,
        token=token,
    )
    listener = listen(args.host, args.port)
    port = listener.getsockname()[1]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(args.host, args.host)  # one to type
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{port}/" + (f"?token={token}" if token else "")
    print(f"The studio is at {address}\nCtrl-C ends it.", flush=True)
    if not args.no_browser:
        threading.Timer(0.5, _show, [address]).start()
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=15,
        limit_concurrency=256,
        h11_max_incomplete_event_size=1 << 16,
        timeout_graceful_shutdown=5,
    )
    uvicorn.Server(config).run(sockets=[listener])
    return 0


def offers_of(
    sources: Sequence[str], folder: Path
) -> tuple[list[Path], dict[Path, tuple[str, int]]]:
    """Photos that the page offers, those of films written into `folder`; of these, film and frame.

    Raises
    ------
    ImageError
        If there is none at a place that is named, or a film cannot be read.
    """
    from ..film.names import is_film
    from .films import key_frames

    files: list[Path] = []
    frames: dict[Path, tuple[str, int]] = {}
    for number, source in enumerate(sources):
        if not (is_film(source) and Path(source).is_file()):
            files += photos_of([source])
            continue
        inside = folder / str(number)
        inside.mkdir()
        for path, frame in key_frames(Path(source), inside).items():
            files.append(path)
            frames[path] = Path(source).name, frame
    return files, frames


def photos_of(sources: Sequence[str]) -> list[Path]:
    """Pictures that are named, and those in folders that are.

    Raises
    ------
    ImageError
        If there is none at a place that is named.
    """
    from ..folders import pictures_in

    found: list[Path] = []
    for source in map(Path, sources):
        if source.is_dir():
            inside, left_out = pictures_in(source)
            for path, why in left_out:
                print(f"left out: {path}: {why}", file=sys.stderr)
            if not inside:
                raise ImageError(f"The folder {source} holds no picture.")
            found += inside
        elif source.is_file():
            found.append(source)
        else:
            raise ImageError(f"There is no file or folder {source}.")
    return found


def listen(host: str, port: int | None) -> socket.socket:
    """A socket that listens; without a port, at the usual one or any that is free.

    Raises
    ------
    ColorizationError
        If it cannot.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    reason: OSError | None = None
    for wanted in (_PORT, 0) if port is None else (port,):
        listener = socket.socket(family, socket.SOCK_STREAM)
        if sys.platform != "win32":  # where it would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, wanted))
            listener.listen(128)
            return listener
        except OSError as error:
            reason = error
            listener.close()
    assert reason is not None
    raise ColorizationError(
        f"{host} port {port} cannot be listened at: {reason.strerror or reason}; name another "
        "--port or --host."
    )


def _show(address: str) -> None:
    with contextlib.suppress(Exception):  # a machine without a browser is fine
        webbrowser.open(address)


if __name__ == "__main__":
    sys.exit(main())
