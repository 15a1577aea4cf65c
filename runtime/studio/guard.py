"""Who may ask, and how much: what is checked before any handler sees a request."""

from __future__ import annotations

import hmac
import json
import logging
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio

log = logging.getLogger("runtime.studio")

COOKIE = "hscaunet-token"
LOOPBACK = ("127.0.0.1", "localhost", "::1")

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
_SLOWEST = 10_000  # bytes a second that a client must send, once its grace is over
_LONGEST = 600.0  # seconds for any request, and for an answer to be fetched
_CLOSED = (408, 413, 503)
"""After these the connection is closed: what is left of the request is not waited for."""

RELEASE = "hscaunet.release"
"""Where in the scope handlers leave what is to be done once the answer is sent, or given up."""


class RefusedError(Exception):
    """A request that is answered by a sentence and nothing else."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


class Guard:
    """ASGI middleware: host, origin, token, size and pace of requests; headers of answers; log.

    Parameters
    ----------
    app : ASGI application
    hosts : iterable of str, optional
        Names by which the server may be called, without port; None is any. A page elsewhere that
        makes its own name lead to this machine is stopped by this.
    token : str, optional
        What a client must show: ``Authorization: Bearer``, or once as ``/?token=``, which sets a
        cookie.
    most : int
        Bytes of a request.
    stall : float
        Seconds that a client may keep us waiting.
    at_once : int
        Requests that are served together; more get status 503.
    count : callable, optional
        Called with method, handler's name, status and seconds of each request.
    """

    def __init__(
        self,
        app: Any,
        *,
        hosts: Iterable[str] | None,
        token: str | None,
        most: int,
        stall: float,
        at_once: int = 32,
        count: Any = None,
    ) -> None:
        self.app = app
        self._hosts = None if hosts is None else frozenset(hosts)
        self._token, self._most, self._stall = token, most, stall
        self._places, self._taken = at_once, 0
        self._count = count or (lambda method, route, status, seconds: None)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        began, status = time.perf_counter(), 0

        async def answer(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = {name for name, _ in message["headers"]}
                more = [(k.encode(), v.encode()) for k, v in HEADERS.items()]
                if status in _CLOSED:
                    more.append((b"connection", b"close"))
                message["headers"] = [
                    *message["headers"], *(pair for pair in more if pair[0] not in own)
                ]  # fmt: skip
            with anyio.fail_after(_LONGEST):  # a client that does not read
                await send(message)

        self._taken += 1
        try:
            if self._taken > self._places and scope["path"] != "/healthz":
                raise RefusedError(503, "The server is busy; try again in a moment.")
            headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
            self._check(scope, headers)
            if await self._signed_in(scope, headers, answer):
                await self.app(scope, self._paced(receive), answer)
        except RefusedError as refused:
            await _say(answer, refused.status, refused.sentence)
        except TimeoutError:
            log.info("an answer was not fetched")
        finally:
            self._taken -= 1
            for release in scope.get(RELEASE, ()):
                release()
            seconds = time.perf_counter() - began
            route = getattr(scope.get("endpoint"), "__name__", "none")
            self._count(scope["method"], route, status, seconds)
            log.info("%s %s %d %.0f ms", scope["method"], route, status, 1000 * seconds)

    def _check(self, scope: Any, headers: dict[str, str]) -> None:
        host = headers.get("host", "")
        name = _name_of(host)
        if not name or (self._hosts is not None and name not in self._hosts):
            raise RefusedError(421, "This server is not known by that name.")
        origin = headers.get("origin")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            raise RefusedError(403, "Pages of other origins are refused.")
        site = headers.get("sec-fetch-site", "none")
        if site not in ("none", "same-origin") and scope["path"] != "/":
            raise RefusedError(403, "Pages of other origins are refused.")
        length = headers.get("content-length", "0")
        if length.isascii() and length.isdigit() and int(length[:20]) > self._most:
            raise RefusedError(413, f"A request may have at most {self._most} bytes.")

    async def _signed_in(self, scope: Any, headers: dict[str, str], send: Any) -> bool:
        """Whether the request may go on; a visit that brings the token is answered here."""
        if self._token is None or scope["path"] == "/healthz":
            return True
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] == "/" and given and self._right(given):
            cookie = f"{COOKIE}={self._token}; HttpOnly; SameSite=Strict; Path=/"
            start = [(b"location", b"/"), (b"set-cookie", cookie.encode())]
            await send({"type": "http.response.start", "status": 303, "headers": start})
            await send({"type": "http.response.body", "body": b""})
            return False
        bearer = headers.get("authorization", "").partition(" ")
        if bearer[0].lower() == "bearer" and self._right(bearer[2].strip()):
            return True
        # By hand: cookies of other servers of this machine come along, in whatever shape.
        pairs = (part.strip().partition("=") for part in headers.get("cookie", "").split(";"))
        if any(name == COOKIE and self._right(value) for name, _, value in pairs):
            return True
        raise RefusedError(
            401, "This server asks for its token: open the address that it printed when it began."
        )

    def _right(self, given: str) -> bool:
        assert self._token is not None
        return hmac.compare_digest(given.encode(), self._token.encode())

    def _paced(self, receive: Any) -> Any:
        """`receive` that ends for a client that sends too much, or nothing."""
        began, got, done = time.monotonic(), 0, False

        async def take() -> Any:
            nonlocal got, done
            if done:
                return await receive()  # only to hear that the client has gone
            left = began + min(_LONGEST, self._stall + got / _SLOWEST) - time.monotonic()
            with anyio.move_on_after(max(0.0, min(left, self._stall))) as scope:
                message = await receive()
            if scope.cancelled_caught:
                raise RefusedError(408, "The request came too slowly.")
            got += len(message.get("body", b""))
            done = not message.get("more_body", False)
            if got > self._most:
                raise RefusedError(413, f"A request may have at most {self._most} bytes.")
            return message

        return take


def _name_of(host: str) -> str | None:
    """Name or address without a port, or None if it is none."""
    if not 0 < len(host) < 300 or set(host) & set("/\\@?# \t"):
        return None
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:  # a bracket that is not closed
        return None


async def _say(send: Any, status: int, sentence: str) -> None:
    body = json.dumps({"error": sentence}).encode()
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
