// sRGB and CIE Lab (D65), with the constants of runtime/color.py.

const WHITE = [0.95047, 1, 1.08883];
const DELTA = 6 / 29;

const toLinear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
const toEncoded = (v) => (v <= 0.0031308 ? 12.92 * v : 1.055 * v ** (1 / 2.4) - 0.055);
const f = (t) => (t > DELTA ** 3 ? Math.cbrt(t) : t / (3 * DELTA ** 2) + 4 / 29);
const g = (t) => (t > DELTA ? t ** 3 : 3 * DELTA ** 2 * (t - 4 / 29));

/** [r, g, b] of 0..255 to [L, a, b]. */
export function labOfRgb([r, g_, b]) {
  const [R, G, B] = [r, g_, b].map((v) => toLinear(v / 255));
  const x = f((0.412453 * R + 0.35758 * G + 0.180423 * B) / WHITE[0]);
  const y = f(0.212671 * R + 0.71516 * G + 0.072169 * B);
  const z = f((0.019334 * R + 0.119193 * G + 0.950227 * B) / WHITE[2]);
  return [116 * y - 16, 500 * (x - y), 200 * (y - z)];
}

/** [L, a, b] to linear [R, G, B], which may lie outside 0..1. */
function linearOfLab([L, a, b]) {
  const y = (L + 16) / 116;
  const X = WHITE[0] * g(y + a / 500), Y = g(y), Z = WHITE[2] * g(y - b / 200);
  return [
    3.240481 * X - 1.537152 * Y - 0.498536 * Z,
    -0.969255 * X + 1.87599 * Y + 0.041556 * Z,
    0.055647 * X - 0.204041 * Y + 1.057311 * Z,
  ];
}

const EDGE = 0.002; // what rounding to 8 bits may leave of a colour on the gamut's border

/** Whether sRGB can show it. */
export const shows = (lab) => linearOfLab(lab).every((v) => v >= -EDGE && v <= 1 + EDGE);

/** [L, a, b] to [r, g, b] of 0..255, clipped. */
export const rgbOfLab = (lab) =>
  linearOfLab(lab).map((v) => Math.round(255 * toEncoded(Math.min(1, Math.max(0, v)))));

/** The colour of this hue at this L that sRGB can show, as strong as it may be. */
export function nearest([L, a, b]) {
  if (shows([L, a, b])) return [L, a, b];
  let low = 0, high = 1;
  for (let i = 0; i < 20; i++) {
    const middle = (low + high) / 2;
    if (shows([L, a * middle, b * middle])) low = middle;
    else high = middle;
  }
  return [L, a * low, b * low];
}

export const hexOfRgb = (rgb) => "#" + rgb.map((v) => v.toString(16).padStart(2, "0")).join("");

/** "#rrggbb", "rrggbb" or "#rgb" to [r, g, b], or null. */
export function rgbOfHex(text) {
  let hex = text.trim().replace(/^#/, "");
  if (/^[0-9a-f]{3}$/i.test(hex)) hex = [...hex].map((c) => c + c).join("");
  if (!/^[0-9a-f]{6}$/i.test(hex)) return null;
  return [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16));
}

export const labOfHex = (hex) => labOfRgb(rgbOfHex(hex));
export const hexOfLab = (lab) => hexOfRgb(rgbOfLab(lab));

/** A word for a colour, for screen readers. */
export function nameOf(hex) {
  const [L, a, b] = labOfHex(hex);
  const chroma = Math.hypot(a, b);
  if (chroma < 8) return L > 85 ? "white" : L < 20 ? "black" : "grey";
  const hue = ((Math.atan2(b, a) * 180) / Math.PI + 360) % 360;
  const names = [[20, "pink"], [50, "red"], [75, "orange"], [100, "yellow"], [165, "green"],
    [225, "turquoise"], [290, "blue"], [325, "purple"], [361, "pink"]];
  const name = names.find(([end]) => hue < end)[1];
  if (L < 45 && ["orange", "yellow"].includes(name)) return "brown";
  return (L < 35 ? "dark " : L > 75 ? "light " : "") + name;
}
