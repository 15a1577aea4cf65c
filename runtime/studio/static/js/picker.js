// The popover of a hint: the colours that its pixel can have.

import { html, useEffect, useMemo, useRef, useState } from "../vendor/htm-preact-standalone.js";
import { hexOfLab, labOfHex, nameOf, nearest, rgbOfHex, rgbOfLab, shows } from "./color.js";

const SIDE = 184, REACH = 100; // pixels of the plane, and a and b at its border

const abOf = (x, y) => [(x / SIDE - 0.5) * 2 * REACH, (0.5 - y / SIDE) * 2 * REACH];
const placeOf = ([a, b]) => [(a / REACH / 2 + 0.5) * SIDE, (0.5 - b / REACH / 2) * SIDE];

/** Draw a and b at one L; what sRGB cannot show is hatched. */
function drawPlane(canvas, L) {
  const image = new ImageData(SIDE, SIDE);
  for (let y = 0, at = 0; y < SIDE; y++) {
    for (let x = 0; x < SIDE; x++, at += 4) {
      const lab = [L, ...abOf(x + 0.5, y + 0.5)];
      const inside = shows(lab);
      const line = (x + y) % 8 < 2;
      const rgb = inside ? rgbOfLab(lab) : line ? [150, 150, 150] : [104, 104, 104];
      image.data.set([...rgb, 255], at);
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function Plane({ L, color, onPick }) {
  const canvas = useRef(null);
  const rounded = Math.round(L);
  useEffect(() => drawPlane(canvas.current, rounded), [rounded]);
  const [, a, b] = labOfHex(color);
  const [left, top] = placeOf([a, b]);
  const pick = (event, done) => {
    const box = canvas.current.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * SIDE;
    const y = ((event.clientY - box.top) / box.height) * SIDE;
    onPick([L, ...abOf(x, y)], done);
  };
  const keys = (event) => {
    const step = event.shiftKey ? 15 : 4;
    const by = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step],
      ArrowDown: [0, -step] }[event.key];
    if (!by) return;
    event.preventDefault();
    event.stopPropagation();
    onPick([L, a + by[0], b + by[1]], true);
  };
  return html`<div class="plane" role="slider" tabindex="0" aria-label="Colour at this lightness"
      aria-valuetext=${`${nameOf(color)}, ${color}`} aria-valuenow=${Math.round(a)}
      onKeyDown=${keys}
      onPointerDown=${(e) => { e.currentTarget.setPointerCapture(e.pointerId); pick(e, false); }}
      onPointerMove=${(e) => e.buttons && pick(e, false)}
      onPointerUp=${(e) => pick(e, true)}>
    <canvas ref=${canvas} width=${SIDE} height=${SIDE}></canvas>
    <span class="ring" style=${{ left: `${(left / SIDE) * 100}%`, top: `${(top / SIDE) * 100}%`,
      background: color }}></span>
  </div>`;
}

function Swatches({ title, colors, onPick }) {
  if (!colors.length) return null;
  return html`<div class="swatches" role="group" aria-label=${title}>
    <span class="label">${title}</span>
    ${colors.map((c) => html`<button key=${c} class="swatch" style=${{ background: c }}
      title=${`${nameOf(c)} ${c}`} aria-label=${`${nameOf(c)}, ${c}`}
      onClick=${() => onPick(c)}></button>`)}
  </div>`;
}

/**
 * color: "#rrggbb" of the hint; L: of the photo at its place; suggested: colours, or null while
 * they are on their way; size: in pixels of the photo, or null; onColor(color, done),
 * onSize(pixels), onRemove, onClose, onEyedropper.
 */
export function Picker(props) {
  return props.area ? html`<${AreaPicker} ...${props} />` : html`<${ColorPicker} ...${props} />`;
}

const KINDS = [["", "Colour"], ["photo", "As it is"], ["grey", "Grey"]];

/** What becomes of an area; its colour, if it has one. */
function AreaPicker(props) {
  const { area, onArea, place } = props;
  const kind = area.keep || "";
  const head = html`<div class="kinds" role="radiogroup" aria-label="What becomes of the area">
      ${KINDS.map(([value, label]) => html`<button key=${value} role="radio" aria-checked=${kind === value}
        class=${kind === value ? "on" : ""} onClick=${() => onArea({ keep: value })}>${label}</button>`)}
    </div>
    ${!kind && html`<label class="row"><input type="checkbox" checked=${Boolean(area.only_inside)}
      onChange=${(e) => onArea({ keep: "", only_inside: e.currentTarget.checked })} /> Only inside</label>`}`;
  if (!kind) return html`<${ColorPicker} ...${props} head=${head} />`;
  return html`<div class="picker" role="dialog" aria-label="Area" style=${place}
      onKeyDown=${(e) => e.key === "Escape" && (e.stopPropagation(), props.onClose())}
      onPointerDown=${(e) => e.stopPropagation()}>
    ${head}
    <p class="remark">${kind === "grey" ? "No colour comes in here." : "The photo's own pixels stay here."}</p>
    <div class="row end">
      <button onClick=${props.onRemove}>Remove</button>
      <button class="main" onClick=${props.onClose}>Done</button>
    </div>
  </div>`;
}

function ColorPicker(props) {
  const { color, L, size, suggested, recent, place, onColor, onSize, onRemove, onClose } = props;
  const [text, setText] = useState(color);
  const [remark, setRemark] = useState("");
  const box = useRef(null);
  const typing = useRef(false); // what is typed is not replaced by the nearest under one's fingers
  useEffect(() => {
    if (!typing.current) setText(color);
  }, [color]);
  const here = useMemo(
    () => (suggested || []).map((c) => hexOfLab(nearest([L, ...labOfHex(c).slice(1)]))),
    [suggested, L],
  );
  const take = (lab, done) => {
    const fits = shows(lab);
    const hex = hexOfLab(nearest(lab));
    setRemark(fits ? "" : `So strong a ${nameOf(hexOfLab([60, ...lab.slice(1)]))} cannot exist at this lightness; ${hex} is the nearest.`);
    onColor(hex, done);
  };
  const typed = (value) => {
    setText(value);
    const rgb = rgbOfHex(value);
    if (rgb) take([L, ...labOfHex(value).slice(1)], true);
    else setRemark(value.trim() ? "A colour looks like #c04030." : "");
  };
  const keys = (event) => {
    if (event.key === "Escape" || (event.key === "Enter" && event.target.tagName !== "BUTTON")) {
      event.preventDefault();
      event.stopPropagation();
      onClose();
    }
  };
  useEffect(() => {
    box.current?.querySelector(".plane")?.focus({ preventScroll: true });
  }, []);
  return html`<div class="picker" ref=${box} role="dialog" aria-label="Colour of the hint"
      style=${place} onKeyDown=${keys} onPointerDown=${(e) => e.stopPropagation()}>
    ${props.head}
    <${Plane} L=${L} color=${color} onPick=${take} />
    <div class="row">
      <span class="swatch big" style=${{ background: color }}></span>
      <input class="hex" value=${text} aria-label="Colour as #rrggbb" spellcheck="false"
        autocomplete="off" maxlength="9" onFocus=${() => { typing.current = true; }}
        onBlur=${() => { typing.current = false; setText(color); }} onInput=${(e) => typed(e.currentTarget.value)} />
      <button class="icon" title="Take a colour from the picture (I)"
        aria-label="Take a colour from the picture" onClick=${props.onEyedropper}>
        <svg viewBox="0 0 24 24"><path d="M14 5l5 5M16.500 3.500a2.100 2.100 0 013 3L17 9l-3-3zM13 7l4 4-8.500 8.500-4.500 1 1-4.500z"/></svg>
      </button>
    </div>
    <p class="remark" role="status">${remark}</p>
    ${suggested === null
      ? html`<div class="swatches"><span class="label">Suggested</span><span class="wait"></span></div>`
      : html`<${Swatches} title="Suggested" colors=${[...new Set(here)]}
          onPick=${(c) => take(labOfHex(c), true)} />`}
    <${Swatches} title="Recent" colors=${recent}
      onPick=${(c) => take([L, ...labOfHex(c).slice(1)], true)} />
    ${size !== null && html`<label class="row"><span class="label">Size</span>
      <input type="range" min="1" max=${props.maxSize} value=${size} aria-label="Size of the hint in pixels"
        onInput=${(e) => onSize(Number(e.currentTarget.value))} /></label>`}
    <div class="row end">
      <button onClick=${onRemove}>Remove</button>
      <button class="main" onClick=${onClose}>Done</button>
    </div>
  </div>`;
}
