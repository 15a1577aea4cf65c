// What a person does to hints.

import { hexOfLab, hexOfRgb, labOfRgb, nameOf, nearest } from "./color.js";
import { newId, placeOf } from "./history.js";
import { keepHints, recentColors, rememberColor } from "./keep.js";
import { counted } from "./words.js";

/** Changes of state, each a step that can be undone; needs `refresh` of the page. */
export function changes(page) {
  const { live } = page;
  const remember = () => {
    const { photo, history } = live;
    clearTimeout(history.timer);
    history.timer = setTimeout(() => photo && keepHints(photo.source.key, history), 250);
  };
  const follow = () => { // what every other state brings
    page.setPlaces(null);
    page.redraw();
    page.refresh();
    remember();
  };
  const change = (part, join = null) => {
    live.history.set(part, join);
    follow();
  };
  const settle = () => { live.history.joined = null; }; // what follows is a step of its own
  const unselect = () => {
    page.setSelected(null);
    page.setPicking(false);
  };
  const step = (way) => {
    const { history } = live;
    if (!(way === "undo" ? history.canUndo : history.canRedo)) return;
    history[way]();
    if (!history.hints.some((h) => h.id === live.selected)) unselect();
    follow();
    page.setSaid(`${way === "undo" ? "Taken back" : "Done again"}, ${counted(history.hints.length, "hint", "hints")}`);
  };
  return { change, settle, unselect, step };
}

/** Adding, drawing, moving, colouring and removing hints; needs `changes`. */
export function edits(page) {
  const { live, photo, one, mode, settle } = page;
  const set = (list, join = null) => page.change({ hints: list }, join);
  const edit = (id, work, join) =>
    set(live.history.hints.map((h) => (h.id === id ? work(h) : h)), join);

  const pixel = (pixels, x, y) => pixels.at((x + 0.5) / photo.width, (y + 0.5) / photo.height);
  const mean = () => Math.sqrt(photo.width * photo.height);
  const usual = () => Math.max(1, Math.round((mean() * 5) / 256));
  const most = () => Math.max(2, Math.round(mean() * 0.15));
  const colorAt = (x, y) => {
    const from = live.pixels.color || live.pixels.grey;
    return from ? hexOfRgb(pixel(from, x, y)) : "#808080";
  };
  const lightness = (hint) => {
    const points = hint.polygon || [placeOf(hint)];
    const [x, y] = [0, 1].map((i) => points.reduce((sum, p) => sum + p[i], 0) / points.length);
    const { grey } = live.pixels;
    return grey ? labOfRgb(pixel(grey, x, y))[0] : 50;
  };

  /** Open the popover of a hint, and ask what colours its place may have. */
  const pick = async (hint) => {
    page.setSelected(hint.id);
    page.setPicking(true);
    page.setSuggested(null);
    live.selected = hint.id;
    const [x, y] = placeOf(hint);
    try {
      const now = live.history.state;
      const rest = { ...now, hints: now.hints.filter((h) => h.id !== hint.id) };
      const { colors } = await photo.suggest(x, y, rest);
      if (live.selected === hint.id) page.setSuggested(colors);
    } catch (error) {
      if (live.selected === hint.id) page.setSuggested([]);
      page.fail(error);
    }
  };
  const put = (hint) => {
    const made = { id: newId(), ...hint };
    set([...live.history.hints, made]);
    pick(made);
  };
  const add = (x, y) => {
    mode("hide", false);
    page.setSaid(`Hint at ${x}, ${y}`);
    put({ x, y, color: colorAt(x, y), size: usual() });
  };
  const draw = (kind, points) => {
    const color = page.recent[0] || colorAt(...points[0]);
    const thin = points.filter((_, i) => i % Math.ceil(points.length / 2000) === 0);
    if (kind === "brush") put({ stroke: thin, width: 2 * usual(), color });
    else if (thin.length > 2) put({ polygon: thin, only_inside: true, color });
  };
  const dropped = (id) => { // at the end of a move
    settle();
    const hint = live.history.hints.find((h) => h.id === id);
    if (page.picking && hint) pick(hint); // another place may have other colours
  };
  const recolor = (hex, done) => {
    if (!one) return;
    edit(one.id, (h) => (h.keep ? h : { ...h, color: hex }), `color ${one.id}`);
    if (!done) return;
    settle();
    page.setSaid(`${nameOf(hex)}, ${hex}`);
  };
  const remove = (id) => {
    set(live.history.hints.filter((h) => h.id !== id));
    if (id === live.selected) page.unselect();
    page.setSaid("Hint removed");
  };
  const resize = (id, by) => {
    const fit = (v) =>
      Math.min(most(), Math.max(1, by > 1 ? Math.ceil(v * by) : Math.floor(v * by)));
    edit(id, (h) => ("size" in h ? { ...h, size: fit(h.size) }
      : h.stroke ? { ...h, width: fit(h.width) } : h), `size ${id}`);
  };
  const closePicker = () => {
    page.setPicking(false);
    settle();
    if (one?.color) {
      rememberColor(one.color);
      page.setRecent(recentColors());
    }
    document.querySelector(`.marker[data-id="${page.selected}"]`)?.focus({ preventScroll: true });
  };
  const eyedropped = (rgb) => {
    page.setTool("point");
    if (!one?.color) return;
    recolor(hexOfLab(nearest([lightness(one), ...labOfRgb(rgb).slice(1)])), true);
    page.setPicking(true);
  };
  const pickAt = (x, y) => live.pixels.color && eyedropped(pixel(live.pixels.color, x, y));
  const clear = () => {
    page.unselect();
    set([]);
  };
  return {
    add, draw, edit, pick, dropped, recolor, remove, resize, closePicker, eyedropped, pickAt,
    clear, usual, most, lightness,
  };
}

/** A region as another kind: of a colour, left grey, or left as it is. */
export function areaOf(hint, { keep, only_inside }, recent) {
  const { keep: _, only_inside: before, color, ...rest } = hint;
  if (keep) return { ...rest, keep };
  const bound = only_inside ?? before ?? true;
  return { ...rest, color: color || recent[0] || "#808080", ...(bound && { only_inside: true }) };
}
