"""The studio's HTTP interface; docs/studio.md says what each address takes and gives."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import anyio
import cv2
from anyio import to_thread

from ..errors import (
    ArgumentError,
    ColorizationError,
    CutShortError,
    HintError,
    ImageError,
    MissingDependencyError,
)
from ..fullsize.picture import fit_within
from ..hints import Hints
from ..images import FORMATS, MAX_FILE_BYTES, Metadata, encode_image, to_rgb8
from ..lightness import Lightness, parse_levels
from ..results import ENDINGS, Settings, encoded
from ..safe_files import read_limited
from .guard import RELEASE, Guard, RefusedError
from .metrics import Metrics
from .store import GoneError, Limits, Opened, Store, TooLargeError, give_memory_back

try:
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route
except ImportError:  # pragma: no cover - said by whoever opens it
    raise MissingDependencyError(
        "The studio needs other packages: pip install 'hscaunet[studio]'."
    ) from None

if TYPE_CHECKING:
    from ..colorizer import Colorizer
    from ..session import Session

T = TypeVar("T")

_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_MIME = {"JPEG": "image/jpeg", "PNG": "image/png", "TIFF": "image/tiff", "WEBP": "image/webp",
         "AVIF": "image/avif", "BMP": "image/bmp"}  # fmt: skip
_THUMBNAIL = 200  # pixels of its longer side
_SWEEP = 30.0  # seconds between two looks for photos that nobody came back to


def make_app(
    colorizer: Colorizer,
    *,
    limits: Limits | None = None,
    files: Sequence[Path] = (),
    frames: Mapping[Path, tuple[str, int]] | None = None,
    hosts: Iterable[str] | None = ("127.0.0.1", "localhost", "::1"),
    token: str | None = None,
) -> Any:
    """The studio as an ASGI application.

    Parameters
    ----------
    colorizer : Colorizer
        Shared by all clients.
    limits : Limits, optional
    files : sequence of Path
        Photos on this machine that the page offers, by their number; no other file is ever opened.
    frames : mapping of Path to (str, int), optional
        Of `files` that are frames of a film: the film's name, and the frame's number.
    hosts : iterable of str, optional
        See `guard.Guard`.
    token : str, optional
        See `guard.Guard`.

    Returns
    -------
    ASGI application
    """
    limits = limits or Limits()
    studio = _Studio(colorizer, limits, files, frames or {})
    app = Starlette(
        routes=studio.routes(),
        lifespan=studio.lifespan,
        exception_handlers={
            RefusedError: _on_refused,
            ColorizationError: _on_error,
            HTTPException: _on_http,
            ClientDisconnect: _on_gone,
            Exception: _on_fault,
        },
    )
    guarded = Guard(
        app,
        hosts=hosts,
        token=token,
        most=limits.file_bytes + limits.hint_bytes + (1 << 16),
        stall=limits.stall,
        at_once=limits.requests,
        count=studio.metrics.count,
    )
    guarded.studio = studio  # type: ignore[attr-defined]
    return guarded


def _sentence(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"error": sentence}, status)


async def _on_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    return _sentence(error.status, error.sentence)


async def _on_error(request: Request, error: Exception) -> Response:
    statuses = {
        GoneError: 410,
        TooLargeError: 413,
        HintError: 422,
        ImageError: 422,
        ArgumentError: 422,
    }
    if isinstance(error, CutShortError):
        sentence = f"{error.name} is cut short; get the whole file, or ask for it with tolerant=1."
        return JSONResponse({"error": sentence, "cut_short": True}, 422)
    status = next((s for kind, s in statuses.items() if isinstance(error, kind)), 400)
    return _sentence(status, str(error))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    sentences = {
        404: "There is nothing at this address.",
        405: "This address takes another method.",
    }
    return _sentence(error.status_code, sentences.get(error.status_code, str(error.detail)))


async def _on_fault(request: Request, error: Exception) -> Response:
    return _sentence(500, "The server made a mistake, which its log tells; please report it.")


async def _on_gone(request: Request, error: Exception) -> Response:
    return _sentence(400, "The client has gone.")


class _Studio:
    """The handlers, and what they share."""

    def __init__(
        self,
        colorizer: Colorizer,
        limits: Limits,
        files: Sequence[Path],
        frames: Mapping[Path, tuple[str, int]],
    ) -> None:
        self.colorizer, self.limits, self.files = colorizer, limits, list(files)
        self.frames = frames
        self.store = Store(colorizer, limits)
        self.metrics = Metrics(self.store)
        self._static = _read_static()
        # Full-size work and decoding one after the other; edits beside them, as many as cores help.
        self._heavy = anyio.CapacityLimiter(1)
        self._light = anyio.CapacityLimiter(2)
        self._receiving = anyio.Semaphore(limits.uploads)
        self._sending = anyio.Semaphore(limits.uploads)

    def routes(self) -> list[Route]:
        """Addresses and what answers."""
        photo = "/v1/photos/{key}"
        return [
            Route("/", self.page),
            Route("/static/{path:path}", self.static),
            Route("/healthz", self.health),
            Route("/metrics", self.numbers),
            Route("/v1/about", self.about),
            Route("/v1/photos", self.open, methods=["POST"]),
            Route("/v1/files/{number}", self.open_file, methods=["POST"]),
            Route("/v1/files/{number}/thumbnail", self.thumbnail),
            Route("/v1/colorize", self.colorize, methods=["POST"]),
            Route(photo, self.close, methods=["DELETE"]),
            Route(f"{photo}/grey", self.grey),
            Route(f"{photo}/preview", self.preview, methods=["POST"]),
            Route(f"{photo}/suggest", self.suggest, methods=["POST"]),
            Route(f"{photo}/places", self.places, methods=["POST"]),
            Route(f"{photo}/proposals", self.proposals, methods=["POST"]),
            Route(f"{photo}/layer", self.layer, methods=["POST"]),
            Route(f"{photo}/hints", self.hints, methods=["POST"]),
            Route(f"{photo}/result", self.result, methods=["POST"]),
        ]

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        """Close photos that nobody came back to, while the server runs; all of them at its end."""

        async def sweep() -> None:
            most = 0
            while True:
                await anyio.sleep(min(_SWEEP, self.limits.idle))
                if self.store.sweep() or len(self.store) < most:
                    await to_thread.run_sync(give_memory_back, limiter=self._heavy)
                most = len(self.store)

        async with anyio.create_task_group() as group:
            group.start_soon(sweep)
            yield
            group.cancel_scope.cancel()
        self.store.clear()

    # The page

    async def page(self, request: Request) -> Response:
        """The page itself."""
        return self._file("index.html")

    async def static(self, request: Request) -> Response:
        """A file of the page, of those that were read when the server began."""
        return self._file(request.path_params["path"])

    def _file(self, name: str) -> Response:
        if name not in self._static:
            raise HTTPException(404)
        data, kind = self._static[name]
        return Response(data, media_type=kind, headers={"cache-control": "no-cache"})

    async def health(self, request: Request) -> Response:
        """Whether the server answers."""
        return JSONResponse({"status": "ok"})

    async def numbers(self, request: Request) -> Response:
        """Prometheus metrics."""
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4")

    async def about(self, request: Request) -> Response:
        """Model, limits and the photos of this machine."""
        from .. import __version__

        return JSONResponse(
            {
                "version": __version__,
                "model": self.colorizer.metadata.get("name", "unnamed"),
                "engine": repr(self.colorizer),
                "pixels": self.limits.pixels,
                "file_bytes": self.limits.file_bytes,
                "files": [path.name for path in self.files],
                "frames": [self.frames.get(path) for path in self.files],
                "formats": {kind: ENDINGS[kind] for kind in _MIME},
            }
        )

    # Photos

    async def open(self, request: Request) -> Response:
        """Open the photo that is the body."""
        name = request.query_params.get("name", "photo")
        async with self._slot():
            data = await self._body(request, self.limits.file_bytes, name)
            return await self._opened(data, name, request)

    async def open_file(self, request: Request) -> Response:
        """Open one of the photos of this machine."""
        path = self._path(request)
        async with self._slot():
            data = await self._run(lambda: _of_disk(path), heavy=True)
            return await self._opened(data, path.name, request)

    async def thumbnail(self, request: Request) -> Response:
        """One of the photos of this machine, small, as it is."""
        path = self._path(request)

        def work() -> bytes:
            pixels = to_rgb8(self.store.read(_of_disk(path), path.name).photo.pixels)
            high, wide = fit_within(*pixels.shape[:2], _THUMBNAIL)
            return _jpeg(cv2.resize(pixels, (wide, high), interpolation=cv2.INTER_AREA))

        data = await self._run(work, heavy=True)
        return Response(data, media_type="image/jpeg", headers={"cache-control": "max-age=600"})

    def _path(self, request: Request) -> Path:
        number = request.path_params["number"]
        if not (number.isascii() and number.isdigit() and len(number) < 10):
            raise HTTPException(404)
        if int(number) >= len(self.files):
            raise HTTPException(404)
        return self.files[int(number)]

    async def _opened(self, data: bytes, name: str, request: Request) -> Response:
        reading: dict[str, Any] = {"tolerant": request.query_params.get("tolerant") == "1"}
        if "page" in request.query_params:
            reading["page"] = _whole(request, "page", 1)
        one = await self._run(lambda: self.store.open(data, name, **reading), heavy=True)
        self.metrics.opened()
        return JSONResponse(
            {
                "key": one.key,
                "name": one.name,
                "width": one.session.width,
                "height": one.session.height,
                "kind": one.kind,
                "notes": list(one.photo.notes),
            },
            201,
        )

    async def close(self, request: Request) -> Response:
        """Close a photo."""
        self.store.close(request.path_params["key"])
        return Response(status_code=204)

    async def grey(self, request: Request) -> Response:
        """The photo's lightness as a grey PNG."""
        one = self.store.find(request.path_params["key"])
        side, lightness = self._side(request), _lightness(request.query_params)

        def work() -> bytes:
            with one.lock:
                one.use(self.colorizer, one.session.hints, lightness)
                return encode_image(one.session.grey(side), "PNG")

        return Response(await self._run(work), media_type="image/png")

    async def preview(self, request: Request) -> Response:
        """The photo colorized with the hints of the body, as JPEG."""
        one = self.store.find(request.path_params["key"])
        side = self._side(request)
        picture = await self._edit(request, one, lambda session: _jpeg(session.preview(side)))
        self.store.sweep(keep=one.key)  # what it holds now may be more than before
        return Response(picture, media_type="image/jpeg")

    async def suggest(self, request: Request) -> Response:
        """Plausible colours for a place."""
        one = self.store.find(request.path_params["key"])
        x, y = _whole(request, "x"), _whole(request, "y")
        k = _whole(request, "k", 5)
        colors = await self._edit(request, one, lambda session: session.suggest(x, y, k))
        return JSONResponse({"colors": ["#{:02x}{:02x}{:02x}".format(*color) for color in colors]})

    async def places(self, request: Request) -> Response:
        """Where another hint would tell the network most."""
        one = self.store.find(request.path_params["key"])
        k = _whole(request, "k", 5)
        places = await self._edit(request, one, lambda session: session.next_places(k))
        return JSONResponse({"places": places})

    async def proposals(self, request: Request) -> Response:
        """Hint files to begin with."""
        one = self.store.find(request.path_params["key"])
        k, lightness = _whole(request, "k", 4), _lightness(request.query_params)

        def work() -> list[Any]:
            with one.lock:
                one.use(self.colorizer, Hints(), lightness)
                return [json.loads(hints.to_json()) for hints in one.session.proposals(k)]

        return JSONResponse({"proposals": await self._run(work)})

    async def layer(self, request: Request) -> Response:
        """The colours alone, 16 bits a channel."""
        one = self.store.find(request.path_params["key"])
        ending = _ending(request.query_params.get("format"), "TIFF")
        if FORMATS[ending] not in ("PNG", "TIFF"):
            raise RefusedError(422, "A layer of 16 bits is a png or tif.")
        lightness = _lightness(request.query_params)
        body = await self._body(request, self.limits.hint_bytes)
        await self._hold(request)

        def work() -> bytes:
            hints = self._hints(body)
            with one.lock:
                one.use(self.colorizer, hints, lightness)
                layer = one.session.color_layer()
            metadata = Metadata(dpi=one.photo.metadata.dpi)
            return encode_image(layer, FORMATS[ending], metadata)

        data = await self._run(work, heavy=True)
        return _picture(data, ending, f"{Path(one.name).stem}-layer", [])

    async def hints(self, request: Request) -> Response:
        """A hint file as it is for this photo: of this version, scaled to its size, checked."""
        one = self.store.find(request.path_params["key"])
        body = await self._body(request, self.limits.hint_bytes)

        def work() -> str:
            hints = self._hints(body)
            fitted = hints.fitted(one.session.width, one.session.height)
            fitted.check((one.session.width, one.session.height))
            return fitted.to_json()

        return Response(await self._run(work), media_type="application/json")

    async def result(self, request: Request) -> Response:
        """The colorized photo at full size, in its own depth with its metadata."""
        one = self.store.find(request.path_params["key"])
        ending = _ending(request.query_params.get("format"), one.kind)
        settings = Settings(provenance=request.query_params.get("provenance") == "1")
        lightness = _lightness(request.query_params)
        body = await self._body(request, self.limits.hint_bytes)
        await self._hold(request)

        def work() -> tuple[bytes, list[str]]:
            notes = [*one.photo.notes]
            hints = self._hints(body)
            with one.lock:  # which previews need as well: not for all of the work
                one.use(self.colorizer, hints, lightness)
                render, kept = one.session._rendering(), one.session.hints
            colored = render()
            data = encoded(ending, colored, one.photo, kept, self.colorizer, settings, notes)
            return data, notes

        data, notes = await self._run(work, heavy=True)
        return _picture(data, ending, one.name, notes)

    async def colorize(self, request: Request) -> Response:
        """Colorize a photo in one request: multipart fields photo, hints, format, channel, ..."""
        async with self._slot():
            _check_charset(request)
            try:
                form = await request.form(
                    max_files=2, max_fields=8, max_part_size=self.limits.hint_bytes
                )
            except (UnicodeError, ValueError, KeyError) as error:
                raise RefusedError(400, "The multipart form cannot be read.") from error
            try:
                photo = form.get("photo")
                if photo is None or isinstance(photo, str):
                    raise RefusedError(422, "The field photo must be a picture file.")
                data, name = await photo.read(), photo.filename or "photo"
                given = form.get("hints") or ""
                for file, most in (
                    (photo, self.limits.file_bytes),
                    (given, self.limits.hint_bytes),
                ):
                    if getattr(file, "size", 0) > most:
                        raise RefusedError(413, f"It may have at most {most} bytes.")
                text = (
                    given.encode("utf-8", "replace")
                    if isinstance(given, str)
                    else (await given.read())
                )
                wanted = form.get("format")
                lightness = _lightness(form)
            finally:
                await form.close()
            if len(text) > self.limits.hint_bytes:
                raise RefusedError(413, f"Hints may have {self.limits.hint_bytes} bytes at most.")
            await self._hold(request)

            def work() -> tuple[bytes, str, list[str], str]:
                hints = self._hints(text)
                one = self.store.read(data, name)
                ending = _ending(wanted if isinstance(wanted, str) else None, one.kind)
                high, wide = one.photo.pixels.shape[:2]
                kept = hints.fitted(wide, high)
                kept.check((wide, high))
                colored = self.colorizer.colorize(one.photo.pixels, kept, lightness=lightness)
                notes = [*one.photo.notes]
                made = encoded(ending, colored, one.photo, kept, self.colorizer, Settings(), notes)
                return made, ending, notes, one.name

            made, ending, notes, name = await self._run(work, heavy=True)
        return _picture(made, ending, name, notes)

    # What they share

    @contextlib.asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """A place among those whose photos are received."""
        await self._place(self._receiving)
        try:
            yield
        finally:
            self._receiving.release()

    async def _place(self, places: anyio.Semaphore) -> None:
        """Wait for a place, as long as a client may keep us waiting; or 503."""
        with anyio.move_on_after(self.limits.stall) as scope:
            await places.acquire()
        if scope.cancelled_caught:
            raise RefusedError(503, "The server is busy; try again in a moment.")

    async def _run(self, work: Callable[[], T], *, heavy: bool = False) -> T:
        try:
            return await to_thread.run_sync(work, limiter=self._heavy if heavy else self._light)
        except MemoryError:
            raise RefusedError(507, "This does not fit the memory of the server.") from None

    async def _edit(self, request: Request, one: Opened, work: Callable[[Session], T]) -> T:
        """What `work` gives of a photo with the hints of the body."""
        lightness = _lightness(request.query_params)
        body = await self._body(request, self.limits.hint_bytes)

        def edited() -> T:
            hints = self._hints(body)
            with one.lock:
                one.use(self.colorizer, hints, lightness)
                return work(one.session)

        return await self._run(edited)

    async def _body(self, request: Request, most: int, name: str = "") -> bytes:
        parts, got = [], 0
        async for part in request.stream():
            if name and not parts and part:
                self.store.check_header(part, name)  # before the rest is waited for
            got += len(part)
            if got > most:
                raise RefusedError(413, f"It may have at most {most} bytes.")
            parts.append(part)
        return b"".join(parts)

    def _hints(self, data: bytes) -> Hints:
        """Of a hint file; to be called where the work is done, as it takes time and memory."""
        hints = Hints.from_json(data) if data.strip() else Hints()
        if hints.shapes > self.limits.areas:
            raise TooLargeError(f"A request may have {self.limits.areas} strokes and regions.")
        return hints

    async def _hold(self, request: Request) -> None:
        """Take one of the places of pictures that are sent, until that is done."""
        await self._place(self._sending)
        request.scope.setdefault(RELEASE, []).append(self._sending.release)

    def _side(self, request: Request) -> int:
        return min(_whole(request, "side", 1024), self.limits.side)


def _check_charset(request: Request) -> None:
    """Refuse other letters than UTF-8, in which names could not be told."""
    found = re.search(
        r"charset\s*=\s*\"?([^\s;\"]*)", request.headers.get("content-type", ""), re.I
    )
    if found and found[1].lower() not in ("utf-8", "utf8"):
        raise RefusedError(415, "A form must be in UTF-8.")


def _lightness(values: Mapping[str, Any]) -> Lightness:
    """How the photo becomes grey, as a request says: channel, levels, even."""
    levels = parse_levels(str(values.get("levels") or "0,1"))
    channel = str(values.get("channel") or "luminance")
    return Lightness(channel, levels, str(values.get("even") or "0") == "1")


def _whole(request: Request, name: str, default: int | None = None) -> int:
    text = request.query_params.get(name, "" if default is None else str(default))
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 10):
        raise RefusedError(422, f"{name} must be a whole number.")
    return int(text)


def _ending(wanted: str | None, kind: str) -> str:
    """Ending of the format that is asked for, or of the photo's own."""
    if wanted:
        ending = "." + wanted.lower().lstrip(".")
        if ending not in FORMATS:
            raise RefusedError(422, f"format must be one of {', '.join(e[1:] for e in FORMATS)}.")
        return ending
    return ENDINGS.get(kind, ".png")  # GIF, HEIC and JPEG 2000 are only read


def _picture(data: bytes, ending: str, name: str, notes: list[str]) -> Response:
    """A picture to save; what got lost stands in a header, as JSON."""
    stem = Path(name).stem or "photo"
    return Response(
        data,
        media_type=_MIME[FORMATS[ending]],
        headers={
            "content-disposition": "attachment; "
            f"filename*=UTF-8''{quote(stem, errors='replace')}-color{ending}",
            "hscaunet-notes": json.dumps([note[:300] for note in notes[:12]]),
        },
    )


def _of_disk(path: Path) -> bytes:
    return read_limited(path, MAX_FILE_BYTES, "picture", ImageError)


def _jpeg(rgb: Any) -> bytes:
    """For the screen: fast, its colours at full resolution."""
    options = [
        cv2.IMWRITE_JPEG_QUALITY, 92,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]  # fmt: skip
    made, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)
    assert made
    return data.tobytes()


def _read_static() -> dict[str, tuple[bytes, str]]:
    """The page's files, by the path below static/."""
    root = resources.files(__package__) / "static"
    found = {}
    waiting = [("", root)]
    while waiting:
        place, folder = waiting.pop()
        for entry in folder.iterdir():
            name = f"{place}{entry.name}"
            if entry.is_dir():
                waiting.append((f"{name}/", entry))
            else:
                kind = _TYPES.get(Path(name).suffix, "text/plain")
                found[name] = entry.read_bytes(), f"{kind}; charset=utf-8"
    return found
