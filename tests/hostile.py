"""Malformed, truncated and hostile files: ``python tests/hostile.py MODEL FOLDER``.

Writes them, each made from the seed and its number, opens each as an application would, and prints
a line of JSON for each. Run in a process of its own, so that a crash is seen as one.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from runtime import ColorizationError, Colorizer, Hints, read_photo, write_image
from runtime.images import Metadata, encode_image
from runtime.images.profiles import srgb_profile


def picture(seed: int, height: int = 40, width: int = 56) -> np.ndarray:
    """Noise on a ramp, so that every format has something to pack."""
    rng = np.random.default_rng(seed)
    ramp = np.add.outer(np.arange(height) * 2, np.arange(width))[..., None] + rng.integers(
        0, 60, (height, width, 3)
    )
    return ramp.astype(np.uint8)


def whole_files() -> dict[str, bytes]:
    """A good file of each kind."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 6
    exif.get_ifd(0x8769)[0x9003] = "2020:01:02 03:04:05"
    metadata = Metadata(exif.tobytes(), srgb_profile(), (300.0, 300.0))
    rgb = picture(0)
    deep = rgb.astype(np.uint16) * 257
    files = {
        f"{kind.lower()}.{kind.lower()}": encode_image(rgb, kind, metadata)
        for kind in ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP")
    }
    files["deep.png"] = encode_image(deep, "PNG", metadata)
    files["deep.tif"] = encode_image(deep, "TIFF", metadata)
    files["float.tif"] = encode_image((rgb / 255).astype(np.float32), "TIFF", metadata)
    for kind, options in (("GIF", {}), ("JPEG", {"progressive": True}), ("TIFF", {"tiled": True})):
        buffer = io.BytesIO()
        Image.fromarray(rgb).save(buffer, kind, **options)
        files[f"other-{kind.lower()}.{kind.lower()}"] = buffer.getvalue()
    return files


def requests(count: int, key: str, seed: int) -> Iterator[tuple[str, str, dict[str, str], bytes]]:
    """Requests to the studio that no page sends: method, path, headers and body.

    Parameters
    ----------
    count : int
    key : str
        Of a photo that is open, so that some reach further.
    seed : int
    """
    rng = np.random.default_rng(seed)
    files = sorted(whole_files().items())
    hints = (
        b'{"format": "hscaunet-hints", "version": 1, "hints": [{"x": 5, "y": 6, "color": "red"}]}'
    )
    odd = ["", "-1", "1e9", "99999999999999999999", "x", "%00", "../../etc/passwd", "\u0663", "1;2"]
    places = [
        "/", "/v1/about", "/v1/photos", "/v1/colorize", "/v1/files/0", "/v1/files/-1", "/metrics",
        "/static/js/app.js", "/static/../../setup.cfg", "/static/%2e%2e%2f%2e%2e%2fsetup.cfg",
        "//etc/passwd", "/v1/photos/..%2f..", f"/v1/photos/{key}", f"/v1/photos/{key}/hints",
    ]  # fmt: skip
    for what in ("grey", "preview", "suggest", "places", "result"):
        places.append(f"/v1/photos/{key}/{what}")
    for _ in range(count):
        path = str(rng.choice(places))
        if path == f"/v1/photos/{key}":
            path += "x"  # closing it would end the game
        names = rng.choice(["side", "x", "y", "k", "format", "name", "page", "token"], 2)
        path += "?" + "&".join(f"{name}={rng.choice(odd)}" for name in names)
        body = bytearray(rng.choice([b"", hints, files[int(rng.integers(len(files)))][1]]))
        for at in rng.integers(0, max(1, len(body)), int(rng.integers(4))):
            if body:
                body[at] = int(rng.integers(256))
        kind = int(rng.integers(5))
        headers = {}
        if kind == 0:
            edge = str(rng.choice(["b", "", "x" * 300, '"b']))
            headers["content-type"] = f"multipart/form-data; boundary={edge}"
            name = str(rng.choice(["photo", "hints", "", "photo\x01"]))
            head = f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="../a"\r\n\r\n'
            body = bytearray(head.encode() + bytes(body) + rng.choice([b"", b"\r\n--b--\r\n"]))
        elif kind == 1:
            headers["content-type"] = str(
                rng.choice(["application/json", "image/png", "\x7f", "a/b" * 99])
            )
        elif kind == 2:
            headers["origin"] = str(
                rng.choice(["null", "http://evil.example", "file://", "http://[", ""])
            )
        elif kind == 3:
            headers["host"] = str(
                rng.choice(["", "evil.example", "127.0.0.1@evil", "[::1", "a" * 500])
            )
        elif kind == 4:
            headers["authorization"] = str(rng.choice(["Bearer", "Bearer x", "Basic eA==", "\x01"]))
        yield (
            str(rng.choice(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"])),
            path,
            headers,
            bytes(body),
        )


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *chunks: bytes, depth: int = 8, color: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IEND", b"")


def tiff(*entries: tuple[int, int, int, int], after: int = 0) -> bytes:
    """A TIFF of one directory with (tag, type, count, value) entries."""
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + struct.pack("<I", after)


def crafted() -> Iterator[tuple[str, bytes]]:
    """Files that lie on purpose."""
    bomb = zlib.compress(b"\0" * 50_000_000, 9)
    yield "bomb-size.png", png(60_000, 60_000, chunk(b"IDAT", zlib.compress(b"\0" * 100)))
    yield "bomb-deep.png", png(15_000, 15_000, chunk(b"IDAT", b"x"), depth=16)
    yield "bomb-text.png", png(8, 8, chunk(b"zTXt", b"a\0\0" + bomb), chunk(b"IDAT", b""))
    yield "bomb-icc.png", png(8, 8, chunk(b"iCCP", b"a\0\0" + bomb), chunk(b"IDAT", b""))
    yield "zero.png", png(0, 8, chunk(b"IDAT", zlib.compress(b"\0" * 100)))
    yield "none.png", png(8, 8)
    yield "short.png", png(800, 800, chunk(b"IDAT", zlib.compress(b"\0" * 100)))
    yield "depth.png", png(8, 8, chunk(b"IDAT", zlib.compress(b"\0" * 300)), depth=7)
    yield "empty.tif", tiff()
    size = ((256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 1, 8), (262, 3, 1, 1))
    yield "loop.tif", tiff(*size, (273, 4, 1, 0xFFFFFF), after=8)
    yield "far.tif", tiff(*size, (273, 4, 1, 0xFFFFFFF0), (279, 4, 1, 64), (277, 3, 1, 1))
    yield "count.tif", tiff(*size, (273, 4, 0x3FFFFFFF, 8), (279, 4, 0x3FFFFFFF, 8))
    yield "huge.tif", tiff((256, 4, 1, 4_000_000_000), (257, 4, 1, 4_000_000_000), *size[2:])
    deep = ((256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 1, 16), (262, 3, 1, 1), (277, 3, 1, 1))
    yield "deep-far.tif", tiff(*deep, (273, 4, 1, 0x7FFFFFF0), (279, 4, 1, 128), (339, 3, 1, 1))
    yield "deep-64.tif", tiff(*size[:2], (258, 3, 1, 64), (262, 3, 1, 1), (339, 3, 1, 3))
    yield "deep-signed.tif", tiff(*deep, (273, 4, 1, 8), (279, 4, 1, 128), (339, 3, 1, 2))
    yield "exif-only.jpg", b"\xff\xd8\xff\xe1\x00\x10Exif\0\0II*\0\x08\0\0\0\xff\xd9"
    yield "sof.jpg", b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03" + b"\x01\x11\x00" * 3
    yield "scan.jpg", b"\xff\xd8\xff\xda" + b"\0" * 500
    yield "fill.jpg", b"\xff\xd8" + b"\xff" * 100_000
    yield (
        "negative.bmp",
        b"BM"
        + struct.pack("<IHHI", 99, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, -5, -5, 1, 24, 0, 0, 0, 0, 0, 0),
    )
    yield (
        "huge.bmp",
        b"BM"
        + struct.pack("<IHHI", 99, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0),
    )
    yield "huge.gif", b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + b"\0" * 20
    yield "huge.webp", b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff" * 6 + b"\0" * 40
    ispe = struct.pack(">I4sIII", 20, b"ispe", 0, 2**31, 2**31)
    yield "huge.avif", struct.pack(">I", 24) + b"ftypavif" + b"\0" * 12 + ispe
    yield "empty.avif", struct.pack(">I", 24) + b"ftypavif" + b"\0" * 12
    for name in ("svg.png", "pdf.jpg", "eps.tif", "zip.png", "html.jpg", "elf.bmp"):
        head = {
            "svg": b"<svg xmlns='x'/>",
            "pdf": b"%PDF-1.7",
            "eps": b"%!PS-Adobe-3.0 EPSF-3.0",
            "zip": b"PK\3\4",
            "html": b"<!doctype html>",
            "elf": b"\x7fELF",
        }[name[:-4]]
        yield name, head + b"\n" * 300


def must_fail(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """`count` picture files that cannot be opened."""
    rng = np.random.default_rng(seed)
    made = 0
    for name, data in crafted():
        made += 1
        yield f"crafted-{name}", data
    good = whole_files()
    names = sorted(good)
    while made < count:
        name = names[made % len(names)]
        data = good[name]
        kind = made // len(names) % 4
        if kind == 0:  # cut short
            data = data[: int(rng.integers(1, int(len(data) * 0.9)))]
        elif kind == 1:  # the right beginning, then noise
            data = data[: int(rng.integers(4, 12))] + rng.bytes(int(rng.integers(1, 5000)))
        elif kind == 2:  # the middle replaced by zeros, and the end missing
            at = int(len(data) * rng.uniform(0.1, 0.5))
            data = data[:at] + b"\0" * int(rng.integers(1, 200))
        else:  # another format's beginning
            other = good[names[(made + 3) % len(names)]]
            data = data[:8] + other[8 : len(other) // 2]
        made += 1
        yield f"made-{made:03}-{name}", data


def may_fail(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Picture files with flipped bits: damaged or not, they must not do harm."""
    rng = np.random.default_rng(seed)
    good = whole_files()
    names = sorted(good)
    for i in range(count):
        name = names[i % len(names)]
        data = bytearray(good[name])
        reach = min(len(data), int(rng.choice([60, 400, 100_000])))
        for at in rng.integers(0, reach, int(rng.integers(1, 8))):
            data[at] ^= 1 << int(rng.integers(8))
        yield f"flipped-{i:03}-{name}", bytes(data)


def hint_files(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """`count` hint files that cannot be read."""
    rng = np.random.default_rng(seed)
    head = '{"format": "hscaunet-hints", "version": 2, "image": {"width": 56, "height": 40}, '
    row = '{"x": 5, "y": 6, "color": "#aabbcc"}'
    shapes = [
        '{"stroke": [[1, 2], [30, 4]], "width": 3, "color": "#aabbcc"}',
        '{"polygon": [[1, 2], [30, 4], [9, 9]], "color": "#aabbcc"}',
        '{"mask": {"x": 1, "y": 1, "width": 2, "height": 2, "runs": [1, 3]}, "color": "#aabbcc"}',
    ]
    whole = head + '"hints": [' + ", ".join([row, *shapes]) + "]}"
    wrong = [
        "null",
        "[]",
        "{}",
        '"x"',
        "1e999",
        "-1",
        "NaN",
        "9" * 5000,
        "true",
        "[[[]]]",
        '"\\ud800"',
    ]
    places = [
        "5,",
        "6,",
        '"#aabbcc"',
        "[[1, 2], [30, 4]]",
        "[1, 3]",
        "3,",
        "40}",
        '"hscaunet-hints"',
        "56",
        "[1, 2]",
    ]
    for i in range(count):
        kind = i % 5
        if kind == 0:
            text = whole[: int(rng.integers(1, len(whole) - 1))].encode()
        elif kind in (1, 2):
            place = places[int(rng.integers(len(places)))]
            value = wrong[int(rng.integers(len(wrong)))]
            closing = place[-1] if place[-1] in ",}" else ""
            text = whole.replace(place, value + closing, 1).encode(errors="surrogatepass")
        elif kind == 3:
            text = rng.bytes(int(rng.integers(0, 3000)))
        else:
            deep = int(rng.integers(1000, 200_000))
            text = (head + '"hints": ' + "[" * deep).encode()
        yield f"hints-{i:03}.json", text


def main() -> None:
    model, folder = sys.argv[1], Path(sys.argv[2])
    out = folder / "out"
    out.mkdir()
    colorizer = Colorizer(model, backend="onnxruntime", device="cpu", threads=1, size=32)
    grey = picture(1)[..., 0]
    groups = {
        "must": must_fail(1, 420),
        "may": may_fail(2, 240),
        "hints": hint_files(3, 100),
    }
    for group, files in groups.items():
        for name, data in files:
            path = folder / name
            path.write_bytes(data)
            print(json.dumps({"begun": name}), flush=True)
            start = time.monotonic()
            result = out / (name + ".png")
            try:
                if group == "hints":
                    write_image(result, colorizer.colorize(grey, Hints.load(path)))
                else:
                    photo = read_photo(path, max_pixels=50_000_000)
                    write_image(result, colorizer.colorize(photo.pixels), photo.metadata)
                said = None
            except ColorizationError as error:
                said = str(error)
            row = {
                "name": name,
                "group": group,
                "said": said,
                "seconds": time.monotonic() - start,
                "left": sorted(p.name for p in out.iterdir() if p != result or said),
            }
            print(json.dumps(row), flush=True)
            result.unlink(missing_ok=True)
            path.unlink()


if __name__ == "__main__":
    main()
