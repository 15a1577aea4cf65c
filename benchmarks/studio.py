"""The studio under load: ``python benchmarks/studio.py`` on an idle machine.

- an edit: time from request to picture at 1024 px, beside a call of the engine (`--edits`);
- clients at once, each editing a photo of its own: errors, 95th percentile, memory;
- photos opened and left behind: memory before and after they are closed;
- requests that no page sends: status of each, and whether the server still answers.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tests"))

IDLE = 20.0  # seconds after which the server closes a photo here

_SERVER = """
import sys
import uvicorn
from runtime import Colorizer
from runtime.studio import Limits, make_app
from runtime.studio.__main__ import listen
listener = listen("127.0.0.1", int(sys.argv[1]))
app = make_app(Colorizer(), limits=Limits(idle=float(sys.argv[2]), stall=5.0))
config = uvicorn.Config(app, log_level="error", access_log=False)
uvicorn.Server(config).run(sockets=[listener])
"""


class Server:
    """A studio in a process of its own."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        words = [sys.executable, "-c", _SERVER, str(self.port), str(IDLE)]
        self.process = subprocess.Popen(words, cwd=ROOT)
        for _ in range(300):
            with contextlib.suppress(OSError):
                self.ask("/healthz")
                return
            time.sleep(0.1)
        raise SystemExit("the server does not begin")

    def ask(self, path: str, data: bytes | None = None) -> bytes:
        """Answer to a request."""
        address = f"http://127.0.0.1:{self.port}{path}"
        with urllib.request.urlopen(address, data=data, timeout=120) as answer:
            return answer.read()

    def open(self, photo: bytes) -> str:
        """Key of a photo."""
        return json.loads(self.ask("/v1/photos?name=p.jpg", photo))["key"]

    @property
    def memory(self) -> float:
        """Resident, in MiB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.split("VmRSS:")[1].split()[0]) / 1024


def photo(side: int, seed: int = 0) -> bytes:
    """A JPEG of `side` x 3/4 `side` pixels."""
    from conftest import colorful

    from runtime import encode_image

    return encode_image(colorful(side * 3 // 4, side, seed), "JPEG")


def hints(rng: np.random.Generator, side: int, count: int) -> bytes:
    """A hint file."""
    rows = [
        {"x": int(x * side), "y": int(y * side * 0.75), "color": f"#{int(c):06x}", "size": 20}
        for x, y, c in zip(rng.random(count), rng.random(count), rng.integers(0, 1 << 24, count),
                           strict=True)
    ]  # fmt: skip
    head = {"format": "hscaunet-hints", "version": 1}
    return json.dumps({**head, "hints": rows}).encode()


def edits(server: Server, count: int) -> None:
    """One client, interleaved with the engine's own calls in this process."""
    from runtime import Colorizer, Hints, decode_photo

    side, rng = 1600, np.random.default_rng(0)
    data = photo(side)
    key = server.open(data)
    colorizer = Colorizer()
    session = colorizer.open(decode_photo(data).pixels)
    x = session._view.input(Hints.from_json(hints(rng, side, 3)))
    kept = colorizer._look(x)
    pages, engines = [], []
    for i in range(count):
        body = hints(rng, side, 1 + i % 5)
        began = time.perf_counter()
        server.ask(f"/v1/photos/{key}/preview?side=1024", body)
        pages.append(time.perf_counter() - began)
        began = time.perf_counter()
        colorizer._ab(x, kept)
        engines.append(time.perf_counter() - began)
    page, engine = (1000 * statistics.median(v[3:]) for v in (pages, engines))
    print(f"an edit at 1024 px: {page:.0f} ms, the engine's part of it {engine:.0f} ms; "
          f"{page - engine:.0f} ms more (must: 60)")  # fmt: skip


def clients(server: Server, count: int, each: int) -> None:
    """Clients at once."""
    took: list[float] = []
    errors: list[str] = []
    before = server.memory

    def work(number: int) -> None:
        rng = np.random.default_rng(number)
        try:
            key = server.open(photo(1024, number))
            for i in range(each):
                body = hints(rng, 1024, 1 + i % 8)
                began = time.perf_counter()
                server.ask(f"/v1/photos/{key}/preview?side=1024", body)
                took.append(time.perf_counter() - began)
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    top = before
    while any(thread.is_alive() for thread in threads):
        top = max(top, server.memory)
        time.sleep(0.2)
    times = np.array(took) * 1000
    print(f"{count} clients x {each} edits: {len(errors)} errors, median {np.median(times):.0f} "
          f"ms, p95 {np.percentile(times, 95):.0f} ms; {before:.0f} MiB before, "
          f"{top:.0f} at most")  # fmt: skip
    print("\n".join(errors[:5]), end="")


def left_behind(server: Server, count: int) -> None:
    """Photos that nobody comes back to."""
    data = photo(1024)
    server.ask(f"/v1/photos/{server.open(data)}/preview", b"")
    before, top = server.memory, 0.0
    for i in range(count):
        key = server.open(data)
        if i % 10 == 0:
            server.ask(f"/v1/photos/{key}/preview", b"")
            top = max(top, server.memory)
    time.sleep(2 * IDLE + 2)
    text = server.ask("/metrics").decode()
    still = next(line for line in text.splitlines() if line.startswith("hscaunet_open_photos "))
    print(f"{count} photos left behind: {before:.0f} MiB before, {top:.0f} at most, "
          f"{server.memory:.0f} after; {still.split()[1]} still open")  # fmt: skip


def raw(port: int, data: bytes, wait: float = 8.0) -> bytes:
    """First bytes of the answer to bytes that need be no request."""
    line = socket.create_connection(("127.0.0.1", port), timeout=wait)
    with line, contextlib.suppress(OSError):
        line.sendall(data)
        line.shutdown(socket.SHUT_WR)
        return line.recv(64)
    return b""


def hostile(server: Server, count: int) -> None:
    """Requests that no page sends, some of them no HTTP, some never finished."""
    from hostile import requests

    key = server.open(photo(256))
    rng = np.random.default_rng(1)
    statuses: dict[str, int] = {}
    for number, (method, path, headers, body) in enumerate(requests(count, key, seed=1)):
        lines = {"host": f"127.0.0.1:{server.port}", "content-length": str(len(body)), **headers}
        if number % 7 == 0:
            lines["content-length"] = str(rng.choice(["-1", "x", str(len(body) + 9), str(1 << 60)]))
        head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items())
        data = (head + "\r\n").encode("utf-8", "replace") + body
        if number % 11 == 0:
            data = data[: int(rng.integers(1, len(data)))]
        elif number % 13 == 0:
            data = rng.bytes(200)
        answer = raw(server.port, data).split()
        status = answer[1].decode("latin-1") if len(answer) > 1 else "none"
        statuses[status] = statuses.get(status, 0) + 1
    server.ask("/healthz")
    faults = sum(n for status, n in statuses.items() if status[0] == "5" and status != "503")
    shown = ", ".join(f"{status}: {n}" for status, n in sorted(statuses.items()))
    print(f"{count} hostile requests: {faults} of status 5xx but 503; {shown}")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--edits", type=int, default=60, help="of one client (60)")
    add("--clients", type=int, default=8, help="at once (8)")
    add("--each", type=int, default=200, help="edits of each (200)")
    add("--hostile", type=int, default=2000, help="requests that no page sends (2000)")
    add("--left", type=int, default=1000, help="photos left behind (1000)")
    args = parser.parse_args()
    server = Server()
    try:
        if args.edits:
            edits(server, args.edits)
        if args.clients and args.each:
            clients(server, args.clients, args.each)
        if args.hostile:
            hostile(server, args.hostile)
        if args.left:
            left_behind(server, args.left)
    finally:
        server.process.terminate()
        server.process.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
