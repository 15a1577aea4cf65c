// The photo with its hints: zoom and pan, placing and dragging, brush and lasso, before and after.

import { html, useEffect, useLayoutEffect, useRef, useState } from "../vendor/htm-preact-standalone.js";
import { nameOf } from "./color.js";
import { placeOf } from "./history.js";

const STILL = 5; // screen pixels that a click may move
const HOLD = 450; // milliseconds until a press is a long one
const LOUPE = 120, MAGNIFIED = 3;

const clamp = (v, low, high) => Math.min(high, Math.max(low, v));

/** View that shows the whole photo. */
function fitted(box, photo) {
  const scale = Math.min(box.width / photo.width, box.height / photo.height);
  return {
    scale,
    x: (box.width - photo.width * scale) / 2,
    y: (box.height - photo.height * scale) / 2,
  };
}

/** The same view, `by` times larger around a place on the screen. */
export function zoomed(view, by, at, least) {
  const scale = clamp(view.scale * by, least, 40);
  const k = scale / view.scale;
  return { scale, x: at.x - (at.x - view.x) * k, y: at.y - (at.y - view.y) * k };
}

function useBox(ref) {
  const [box, setBox] = useState({ width: 0, height: 0 });
  useLayoutEffect(() => {
    const look = () => {
      const { width, height } = ref.current.getBoundingClientRect();
      setBox({ width, height });
    };
    const observer = new ResizeObserver(look);
    observer.observe(ref.current);
    look();
    return () => observer.disconnect();
  }, []);
  return box;
}

export function Stage(props) {
  const { photo, greyUrl, colorUrl, hints, selected, tool, showGrey, compare, hide } = props;
  const root = useRef(null);
  const box = useBox(root);
  const [view, setView] = useState(null);
  const [split, setSplit] = useState(0.5);
  const [drawn, setDrawn] = useState(null); // points of a stroke or polygon that is being drawn
  const [loupe, setLoupe] = useState(null); // place in the photo under a finger
  const [cursor, setCursor] = useState(null); // for the keyboard
  const [corners, setCorners] = useState([]); // of a polygon that is clicked together
  const [ahead, setAhead] = useState(null); // where its next corner would lie
  const fingers = useRef(new Map());
  const press = useRef(null);
  const whole = box.width ? fitted(box, photo) : { scale: 1, x: 0, y: 0 };
  const shown = view || whole;
  useEffect(() => setView(null), [photo.key]);
  useEffect(() => setCorners([]), [photo.key, tool]);
  useEffect(
    () => props.onLook(Math.max(photo.width, photo.height) * shown.scale * devicePixelRatio),
    [shown.scale, shown.x, shown.y, box.width, box.height],
  );
  useEffect(() => props.onCorners(), [corners.length]);

  const here = (event) => {
    const { left, top } = root.current.getBoundingClientRect();
    return { x: event.clientX - left, y: event.clientY - top };
  };
  const toPhoto = ({ x, y }) => [
    Math.floor((x - shown.x) / shown.scale), Math.floor((y - shown.y) / shown.scale),
  ];
  const inside = ([x, y]) => x >= 0 && y >= 0 && x < photo.width && y < photo.height;
  const held = ([x, y]) => [clamp(x, 0, photo.width - 1), clamp(y, 0, photo.height - 1)];
  const toScreen = ([x, y]) => [(x + 0.5) * shown.scale + shown.x, (y + 0.5) * shown.scale + shown.y];
  const zoom = (by, at = { x: box.width / 2, y: box.height / 2 }) =>
    setView(zoomed(shown, by, at, whole.scale * 0.5));
  const cancel = () => { // what is being drawn; true if something was
    const drawing = drawn || corners.length > 0;
    if (press.current) press.current.cancelled = true;
    setDrawn(null);
    setCorners([]);
    return drawing;
  };
  const back = () => { // one corner less; true if there was one
    if (corners.length) setCorners(corners.slice(0, -1));
    return corners.length > 0;
  };
  const fit = () => setView(null);
  Object.assign(props.control, { zoom, fit, toScreen, box, cancel, back, corners: corners.length });

  // Pointers on the photo itself

  const down = (event) => {
    if (event.button > 0 || event.target.closest(".divider")) return;
    root.current.setPointerCapture(event.pointerId);
    fingers.current.set(event.pointerId, here(event));
    if (fingers.current.size > 1) {
      clearTimeout(press.current?.timer);
      press.current = null;
      setDrawn(null);
      setLoupe(null);
      return;
    }
    const start = here(event);
    press.current = { start, view: shown, moved: false, points: [toPhoto(start)] };
    if (event.pointerType === "touch" && tool === "point") {
      press.current.timer = setTimeout(() => {
        if (press.current && !press.current.moved) {
          press.current.placing = true;
          setLoupe(toPhoto(start));
        }
      }, HOLD);
    }
  };
  const move = (event) => {
    const before = fingers.current.get(event.pointerId);
    if (corners.length) setAhead(held(toPhoto(here(event))));
    if (!before) return;
    const now = here(event);
    if (fingers.current.size === 2) {
      const [other] = [...fingers.current].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
      const span = (p) => Math.hypot(p.x - other.x, p.y - other.y) || 1;
      const middle = { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 };
      const last = { x: (before.x + other.x) / 2, y: (before.y + other.y) / 2 };
      const next = zoomed(shown, span(now) / span(before), middle, whole.scale * 0.5);
      setView({ ...next, x: next.x + middle.x - last.x, y: next.y + middle.y - last.y });
      fingers.current.set(event.pointerId, now);
      return;
    }
    fingers.current.set(event.pointerId, now);
    const p = press.current;
    if (!p || p.cancelled) return;
    if (p.placing) return setLoupe(held(toPhoto(now)));
    const still = event.pointerType === "touch" ? 2 * STILL : STILL;
    if (Math.hypot(now.x - p.start.x, now.y - p.start.y) > still) p.moved = true;
    if (!p.moved) return;
    clearTimeout(p.timer);
    if (tool === "point" || tool === "pick") {
      const keep = (v, size, room) => clamp(v, 60 - size * shown.scale, room - 60); // in sight
      setView({
        ...p.view,
        x: keep(p.view.x + now.x - p.start.x, photo.width, box.width),
        y: keep(p.view.y + now.y - p.start.y, photo.height, box.height),
      });
    } else {
      const at = held(toPhoto(now)), end = p.points[p.points.length - 1];
      if (at[0] !== end[0] || at[1] !== end[1]) p.points.push(at);
      setDrawn([...p.points]);
    }
  };
  const up = (event) => {
    fingers.current.delete(event.pointerId);
    const p = press.current;
    press.current = null;
    if (!p) return;
    clearTimeout(p.timer);
    setDrawn(null);
    setLoupe(null);
    const at = toPhoto(here(event));
    if (event.type === "pointercancel" || p.cancelled) return;
    if (tool === "pick") {
      if (!p.moved && inside(at)) props.onPick(...at);
    } else if (tool === "point") {
      if ((!p.moved || p.placing) && inside(held(at)) && (inside(at) || p.placing)) {
        props.onAdd(...held(at));
      }
    } else if (tool === "lasso" && !p.moved) {
      corner(held(at));
    } else if (inside(p.points[0]) || p.moved) {
      props.onDraw(tool, p.points.map(held));
    }
  };
  // A click on the first corner, a double click or Enter closes a polygon.
  const corner = (at) => {
    const near = (p) => Math.hypot(p[0] - at[0], p[1] - at[1]) * shown.scale < 10;
    if (corners.length > 2 && (near(corners[0]) || near(corners[corners.length - 1]))) return closed();
    setAhead(null); // a finger has none
    if (!corners.length || !near(corners[corners.length - 1])) setCorners([...corners, at]);
  };
  const closed = () => {
    if (corners.length > 2) props.onDraw("lasso", corners);
    setCorners([]);
  };
  const wheel = (event) => {
    event.preventDefault();
    if (event.ctrlKey && selected !== null) return props.onSize(selected, event.deltaY < 0 ? 1.15 : 1 / 1.15);
    zoom(Math.exp(-event.deltaY / (event.deltaMode ? 20 : 400)), here(event));
  };
  useEffect(() => {
    // Not by an attribute: those are passive and could not keep the page from scrolling.
    const node = root.current;
    node.addEventListener("wheel", wheel, { passive: false });
    return () => node.removeEventListener("wheel", wheel);
  });

  // Keys on the photo: a cross to place hints without a mouse

  const keys = (event) => {
    if (event.target !== root.current || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = Math.max(1, Math.round((event.shiftKey ? 40 : 8) / shown.scale));
    const by = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step],
      ArrowDown: [0, step] }[event.key];
    const [x, y] = cursor || [Math.floor(photo.width / 2), Math.floor(photo.height / 2)];
    if (by) {
      event.preventDefault();
      setCursor(held([x + by[0], y + by[1]]));
    } else if (event.key === "Enter" && tool !== "brush") {
      event.preventDefault();
      if (tool === "pick") props.onPick(x, y);
      else if (tool === "lasso" && cursor) corner([x, y]);
      else if (tool === "lasso") closed();
      else props.onAdd(x, y);
    }
  };

  const frame = {
    left: `${shown.x}px`, top: `${shown.y}px`,
    width: `${photo.width * shown.scale}px`, height: `${photo.height * shown.scale}px`,
  };
  const sharp = shown.scale > 4 ? " sharp" : "";
  const cut = compare ? `inset(0 0 0 ${split * 100}%)` : "none";
  return html`<div class=${`stage tool-${tool}`} ref=${root} tabindex="0" role="application"
      aria-label="The photo. Arrow keys move a cross, Enter puts a hint there."
      onPointerDown=${down} onPointerMove=${move} onPointerUp=${up} onPointerCancel=${up}
      onKeyDown=${keys} onFocus=${(e) => e.target === root.current && root.current.matches(":focus-visible")
        && setCursor((c) => c || [Math.floor(photo.width / 2), Math.floor(photo.height / 2)])}
      onBlur=${() => setCursor(null)} onContextMenu=${(e) => e.preventDefault()}>
    ${greyUrl && html`<img class=${`layer${sharp}`} src=${greyUrl} style=${frame} alt="" draggable="false" />`}
    ${colorUrl && html`<img class=${`layer result${sharp}`} src=${colorUrl} alt="The colorized photo"
      draggable="false" style=${{ ...frame, clipPath: cut, visibility: showGrey ? "hidden" : "visible" }} />`}
    ${!hide && html`<${Shapes} ...${{ hints, selected, photo, frame, tool }} drawn=${drawn || (ahead && corners.length ? [...corners, ahead] : corners)}
      corners=${drawn ? [] : corners} dot=${5 / shown.scale} width=${props.brushSize} color=${props.drawColor} />`}
    ${compare && html`<${Divider} ...${{ split, setSplit, shown, photo, box }} />`}
    ${!hide && hints.map((hint, i) => html`<${Marker} key=${hint.id} hint=${hint} number=${i + 1}
      at=${toScreen(placeOf(hint))} active=${hint.id === selected} scale=${shown.scale}
      toPhoto=${(e) => held(toPhoto(here(e)))} setLoupe=${setLoupe} ...${props} />`)}
    ${!hide && props.places.map(([x, y], i) => html`<button key=${`${x},${y}`} class="next"
      style=${{ left: `${toScreen([x, y])[0]}px`, top: `${toScreen([x, y])[1]}px` }}
      aria-label=${`Place ${i + 1} for a hint`} onPointerDown=${(e) => e.stopPropagation()}
      onClick=${() => props.onAdd(x, y)}>${i + 1}</button>`)}
    ${view && html`<button class="fit" title="Show the whole photo (0)" onClick=${fit}
      onPointerDown=${(e) => e.stopPropagation()}>${Math.round((100 * shown.scale) / whole.scale)} % · Fit</button>`}
    ${cursor && html`<${Cross} at=${toScreen(cursor)} />`}
    ${loupe && colorUrl && html`<${Loupe} at=${loupe} url=${colorUrl} shown=${shown} photo=${photo}
      toScreen=${toScreen} />`}
  </div>`;
}

function Cross({ at: [x, y] }) {
  return html`<span class="cross" style=${{ left: `${x}px`, top: `${y}px` }}></span>`;
}

/** What lies under a finger, beside it. */
function Loupe({ at, url, shown, photo, toScreen }) {
  const [x, y] = toScreen(at);
  const k = shown.scale * MAGNIFIED;
  const above = y > LOUPE + 60 ? y - LOUPE - 50 : y + 50;
  return html`<div class="loupe" style=${{
    left: `${x - LOUPE / 2}px`, top: `${above}px`, width: `${LOUPE}px`, height: `${LOUPE}px`,
    backgroundImage: `url("${url}")`,
    backgroundSize: `${photo.width * k}px ${photo.height * k}px`,
    backgroundPosition: `${LOUPE / 2 - (at[0] + 0.5) * k}px ${LOUPE / 2 - (at[1] + 0.5) * k}px`,
  }}><span></span></div>`;
}

function Divider({ split, setSplit, shown, photo, box }) {
  const wide = photo.width * shown.scale;
  const x = shown.x + split * wide;
  const drag = (event) => {
    if (!event.buttons) return;
    const left = event.currentTarget.parentElement.getBoundingClientRect().left;
    setSplit(clamp((event.clientX - left - shown.x) / wide, 0, 1));
  };
  const keys = (event) => {
    const by = { ArrowLeft: -0.02, ArrowRight: 0.02 }[event.key];
    if (by) {
      event.preventDefault();
      event.stopPropagation();
      setSplit(clamp(split + by, 0, 1));
    }
  };
  return html`<div class="divider" style=${{ left: `${clamp(x, 0, box.width)}px` }} role="slider"
    tabindex="0" aria-label="Before and after" aria-valuenow=${Math.round(split * 100)}
    aria-valuemin="0" aria-valuemax="100" onKeyDown=${keys}
    onPointerDown=${(e) => { e.stopPropagation(); e.currentTarget.setPointerCapture(e.pointerId); }}
    onPointerMove=${drag}><span class="grip">◂ ▸</span></div>`;
}

/** Strokes and polygons, and what is being drawn. */
function Shapes({ hints, selected, photo, frame, drawn, corners, dot, tool, width, color }) {
  const text = (points) => points.map(([x, y]) => `${x + 0.5},${y + 0.5}`).join(" ");
  const rest = { "vector-effect": "non-scaling-stroke" };
  return html`<svg class="shapes" style=${frame} viewBox=${`0 0 ${photo.width} ${photo.height}`}
      aria-hidden="true">
    ${hints.map((hint) => {
      const on = hint.id === selected ? " on" : "";
      if (hint.polygon) {
        return html`<polygon key=${hint.id} class=${`outline${on}`} points=${text(hint.polygon)} ...${rest} />`;
      }
      if (hint.stroke) {
        return html`<polyline key=${hint.id} class=${`outline${on}`} points=${text(hint.stroke)} ...${rest} />`;
      }
      if (hint.id !== selected || !("x" in hint)) return null;
      const half = hint.size / 2;
      return html`<rect key=${hint.id} class="outline on" x=${hint.x + 0.5 - half} y=${hint.y + 0.5 - half}
        width=${hint.size} height=${hint.size} ...${rest} />`;
    })}
    ${drawn.length > 0 && tool === "brush" && html`<polyline class="drawing" points=${text(drawn)}
      stroke=${color} stroke-width=${width} />`}
    ${drawn.length > 0 && tool !== "brush" && html`<polygon class="outline on"
      points=${text(drawn)} ...${rest} />`}
    ${corners.map(([x, y], i) => html`<circle key=${i} class=${`corner${i ? "" : " first"}`}
      cx=${x + 0.5} cy=${y + 0.5} r=${i ? dot : 1.6 * dot} ...${rest} />`)}
  </svg>`;
}

function Marker({ hint, number, at, active, scale, toPhoto, setLoupe, ...props }) {
  const start = useRef(null);
  const [x, y] = at;
  const down = (event) => {
    if (props.tool === "pick") return; // the colour below is wanted
    event.stopPropagation();
    if (event.button > 0) return;
    event.currentTarget.setPointerCapture(event.pointerId);
    const [px, py] = toPhoto(event), [hx, hy] = placeOf(hint);
    start.current = { x: event.clientX, y: event.clientY, off: [hx - px, hy - py], moved: false };
    start.current.timer = event.pointerType === "touch" && setTimeout(() => {
      if (start.current && !start.current.moved) {
        start.current = null;
        props.onRemove(hint.id);
      }
    }, 700);
  };
  const move = (event) => {
    const s = start.current;
    if (!s) return;
    if (Math.hypot(event.clientX - s.x, event.clientY - s.y) > STILL) s.moved = true;
    if (!s.moved) return;
    clearTimeout(s.timer);
    const [px, py] = toPhoto(event);
    props.onMove(hint.id, px + s.off[0], py + s.off[1]);
    if (event.pointerType === "touch") setLoupe([px + s.off[0], py + s.off[1]]);
  };
  const drop = () => {
    clearTimeout(start.current?.timer);
    start.current = null;
    setLoupe(null);
  };
  useEffect(() => () => clearTimeout(start.current?.timer), []);
  const up = () => {
    const s = start.current;
    drop();
    if (!s) return;
    if (s.moved) props.onMoved(hint.id);
    else props.onSelect(hint.id);
  };
  const keys = (event) => {
    const step = Math.max(1, Math.round((event.shiftKey ? 30 : 4) / scale));
    const by = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step],
      ArrowDown: [0, step] }[event.key];
    if (by) {
      event.preventDefault();
      event.stopPropagation();
      const [px, py] = placeOf(hint);
      props.onMove(hint.id, px + by[0], py + by[1]);
    } else if (event.key === "Delete" || event.key === "Backspace") {
      event.preventDefault();
      event.stopPropagation();
      props.onRemove(hint.id);
    }
  };
  const keyUp = (event) => event.key.startsWith("Arrow") && props.onMoved(hint.id);
  return html`<button class=${`marker${active ? " on" : ""}`} data-id=${hint.id}
    aria-label=${`Hint ${number}: ${hint.keep ? `left ${hint.keep === "grey" ? "grey" : "as it is"}`
      : `${nameOf(hint.color)}, ${hint.color}`}`} aria-pressed=${active}
    style=${{ left: `${x}px`, top: `${y}px`, background: hint.color || "repeating-linear-gradient(45deg, #777 0 3px, #bbb 3px 6px)" }}
    onPointerDown=${down} onPointerMove=${move} onPointerUp=${up} onPointerCancel=${up}
    onClick=${(e) => e.detail === 0 && props.onSelect(hint.id)} onKeyDown=${keys} onKeyUp=${keyUp}
    onFocus=${() => props.onFocusHint(hint.id)}
    onContextMenu=${(e) => {
      e.preventDefault();
      e.stopPropagation();
      if (start.current || e.button === 2) { drop(); props.onRemove(hint.id); }
    }}></button>`;
}
