"""Films for the tests: two things that move over a ground, with sound; made by PyAV."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
from conftest import colorful
from scipy import ndimage

RED, BLUE = (190, 60, 50), (50, 90, 190)


def texture(high, wide, seed):
    """Grey of middling contrast, smooth enough to be followed."""
    noise = np.random.default_rng(seed).normal(size=(high, wide))
    smooth = ndimage.gaussian_filter(noise, 2.5)
    return 128 + 38 * smooth / smooth.std()


class Scene:
    """A red disc and a blue square that move over a pale ground; their true places and colours."""

    def __init__(self, high=144, wide=192, seed=3):
        self.high, self.wide = high, wide
        self.ground = texture(high, wide, seed)
        self.skins = texture(high, wide, seed + 1), texture(high, wide, seed + 2)
        self.ys, self.xs = np.mgrid[:high, :wide]

    def places(self, t):
        """Centres (x, y) of the two in frame t."""
        swing = np.sin(t / 25)
        disc = 0.3 * self.wide + 0.12 * self.wide * swing, 0.4 * self.high
        square = 0.68 * self.wide, 0.55 * self.high + 0.15 * self.high * np.sin(t / 32)
        return disc, square

    def things(self, t):
        """Where the two are seen in frame t, (h, w) bool each."""
        (x, y), (u, v) = self.places(t)
        reach = 0.2 * self.high
        disc = (self.xs - x) ** 2 + (self.ys - y) ** 2 < reach**2
        square = (np.abs(self.xs - u) < reach) & (np.abs(self.ys - v) < reach)
        return disc & ~square, square

    def grey(self, t):
        """Frame t without colours, (h, w) uint8."""
        made = self.ground.copy()
        starts = self.places(0)
        for inside, skin, (x, y), (x0, y0), light in zip(
            self.things(t), self.skins, self.places(t), starts, (-45, 45), strict=True
        ):
            moved = ndimage.shift(skin, (y - y0, x - x0), order=1, mode="wrap")
            made[inside] = (0.6 * moved + 0.4 * 128 + light)[inside]
        return np.clip(made, 0, 255).astype(np.uint8)


def write(
    path,
    frames,
    *,
    codec="libx264",
    pixel_format="yuv420p",
    rate=25,
    sound=True,
    pts=None,
    options=None,
    source="rgb24",
    aspect=None,
    rotate=0,
    mirrored=False,
    tags=None,
):
    """A film of RGB or grey frames; `pts` in milliseconds, `tags` of the codec context."""
    base = Fraction(1, 1000) if pts else Fraction(1, rate)
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=rate, options=options or {})
        first = frames[0]
        stream.width, stream.height, stream.pix_fmt = first.shape[1], first.shape[0], pixel_format
        stream.codec_context.time_base = base
        for name, value in (tags or {}).items():
            setattr(stream.codec_context, name, value)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotate:
            stream.set_display_rotation(rotate, hflip=mirrored)
        audio = out.add_stream("aac", rate=16000, layout="mono") if sound else None
        for i, pixels in enumerate(frames):
            if pixels.ndim == 2:
                pixels = np.repeat(pixels[..., None], 3, axis=2)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=source)
            frame.pts, frame.time_base = pts[i] if pts else i, base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if audio is not None:
            _tone(out, audio, len(frames) / rate)


def _tone(out, audio, seconds):
    samples = np.sin(np.arange(int(16000 * seconds)) / 12).astype(np.float32)
    for i in range(0, len(samples) // 1024 * 1024, 1024):
        part = samples[None, i : i + 1024]
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, i
        out.mux(audio.encode(frame))
    out.mux(audio.encode(None))


def read(path):
    """All frames of a film as RGB, and their times in seconds."""
    with av.open(str(path)) as found:
        frames = list(found.decode(video=0))
        times = [float(frame.pts * frame.time_base) for frame in frames]
        return [frame.to_ndarray(format="rgb24") for frame in frames], times


__all__ = ["BLUE", "RED", "Scene", "colorful", "read", "texture", "write"]
