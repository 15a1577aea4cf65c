// Hints and look with all steps back and forth. A hint is a row of a hint file (docs/hints.md) with
// an id.

let last = 0;
export const newId = () => ++last;

/** A look that changes nothing; see runtime/look.py. */
export const PLAIN = { saturation: 1, strength: 1, warmth: 0 };

/** How the photo becomes grey: as the server takes it; see runtime/lightness.py. */
export const USUAL = { channel: "luminance", levels: "0,1", even: "0" };

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

/** States never change: { hints, look, scan }. */
export class History {
  constructor(states = [{ hints: [], look: PLAIN, scan: USUAL }], index = states.length - 1) {
    // What an older page kept may lack the later parts.
    this.states = states.map((state) => ({ hints: [], look: PLAIN, scan: USUAL, ...state }));
    this.index = index;
    this.joined = null; // which change the next one like it is joined with
    for (const state of this.states) for (const hint of state.hints) last = Math.max(last, hint.id);
  }

  get state() {
    return this.states[this.index];
  }
  get hints() {
    return this.state.hints;
  }
  get look() {
    return this.state.look;
  }
  get scan() {
    return this.state.scan;
  }
  get canUndo() {
    return this.index > 0;
  }
  get canRedo() {
    return this.index < this.states.length - 1;
  }

  /** Another state; changes of the same `join` one after the other are one step. */
  set(change, join = null) {
    const old = this.state;
    if (Object.keys(change).every((key) => same(change[key], old[key]))) return;
    const state = { ...old, ...change };
    const joins = join !== null && join === this.joined && this.canUndo;
    this.states = [...this.states.slice(0, joins ? this.index : this.index + 1), state];
    this.index = this.states.length - 1;
    this.joined = join;
  }
  undo() {
    if (this.canUndo) this.index--;
    this.joined = null;
  }
  redo() {
    if (this.canRedo) this.index++;
    this.joined = null;
  }
}

export const placeOf = (hint) =>
  hint.stroke ? hint.stroke[0] : hint.polygon ? hint.polygon[0] : hint.mask
    ? [hint.mask.x, hint.mask.y] : [hint.x, hint.y];

/** The hint at another place, kept inside the photo. */
export function moved(hint, x, y, { width, height }) {
  const [x0, y0] = placeOf(hint);
  const points = hint.stroke || hint.polygon;
  if (!points) {
    const clamp = (v, most) => Math.min(most - 1, Math.max(0, Math.round(v)));
    if (hint.mask) return { ...hint, mask: { ...hint.mask, x: clamp(x, width), y: clamp(y, height) } };
    return { ...hint, x: clamp(x, width), y: clamp(y, height) };
  }
  const xs = points.map((p) => p[0]), ys = points.map((p) => p[1]);
  const limit = (d, v, most) => Math.min(most - 1 - Math.max(...v), Math.max(-Math.min(...v), d));
  const dx = limit(Math.round(x - x0), xs, width), dy = limit(Math.round(y - y0), ys, height);
  const to = points.map(([px, py]) => [px + dx, py + dy]);
  return hint.stroke ? { ...hint, stroke: to } : { ...hint, polygon: to };
}

/** Text of a hint file. */
export function toFile({ hints, look }, { width, height }) {
  const rows = hints.map(({ id, ...row }) => row);
  return JSON.stringify({
    format: "hscaunet-hints", version: 3, image: { width, height }, look, hints: rows,
  });
}

/** Text of a film's hint file: rows with their frames. */
export const filmFile = (rows, look, { width, height }) => JSON.stringify({
  format: "hscaunet-hints", version: 4, image: { width, height }, look, hints: rows,
});

/** State of a hint file as the server gives it. */
export const ofFile = (file) => ({
  hints: file.hints.map((row) => ({ ...row, id: newId() })),
  look: { ...PLAIN, ...file.look },
});
