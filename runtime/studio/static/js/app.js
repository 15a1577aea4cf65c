// The page: its parts, and what every control of them does.

import { html, useRef } from "../vendor/htm-preact-standalone.js";
import { Adjust } from "./adjust.js";
import { asking } from "./asking.js";
import { areaOf, changes, edits } from "./edits.js";
import { Help } from "./help.js";
import { PLAIN, USUAL, moved, placeOf } from "./history.js";
import { useKeys } from "./keys.js";
import { opening, useStrip } from "./opening.js";
import { usePage } from "./page.js";
import { Proposals, Reference, Strip, Toasts, Toolbar, Welcome } from "./parts.js";
import { Picker } from "./picker.js";
import { pictures } from "./pictures.js";
import { Stage } from "./stage.js";

const KINDS = "image/*,.tif,.tiff,.heic,.heif,.jp2,.json";

export function App() {
  const page = usePage();
  const input = useRef(null);
  // Each part uses those above it.
  for (const part of [pictures, changes, opening, edits, asking]) Object.assign(page, part(page));
  page.choose = () => input.current.click();
  page.eyedrop = () => {
    if (!page.one?.color) return;
    page.setPicking(false);
    page.setTool("pick");
  };
  useStrip(page);
  useKeys(page);

  const { live, photo, one, files, tool, reference, toasts } = page;
  const working = page.busy || page.opening || [page.places, page.proposed].includes("asked");
  const take = (event) => {
    const list = [...event.currentTarget.files];
    event.currentTarget.value = "";
    page.openFiles(list);
  };
  return html`
    <${Tools} page=${page} />
    <input class="hidden" type="file" multiple ref=${input} tabindex="-1"
      aria-label="Open photos" accept=${KINDS} onChange=${take} />
    <main class=${photo && page.picking && one ? "picking" : ""}
        aria-busy=${page.busy || Boolean(page.opening)}>
      ${photo ? html`<${Photograph} page=${page} />`
        : !page.opening && html`<${Welcome} open=${page.choose} />`}
      ${photo && page.picking && one && !page.modes.hide && html`<${Popover} page=${page} />`}
      ${photo && page.adjusting && html`<${Adjusting} page=${page} />`}
      ${Array.isArray(page.proposed) && html`<${Proposals} proposals=${page.proposed}
        onClose=${() => page.setProposed(null)} onTake=${page.take} />`}
      ${working && html`<div class="progress" role="progressbar" aria-label="Working"></div>`}
      ${page.opening && html`<p class="opening">Opening ${page.opening} …</p>`}
      ${tool === "pick" && html`<p class="banner">Click where the colour is${
        reference ? ", here or in the reference" : ""}. Esc ends it.</p>`}
      ${live.control.corners > 0 && html`<p class="banner">${live.control.corners < 3
        ? "Click the next corner. Esc ends it." : "Click the first corner to close it, or press Enter."}</p>`}
      ${reference && html`<${Reference} file=${reference} picking=${tool === "pick"}
        onPick=${page.eyedropped} onClose=${() => page.setReference(null)}
        onBroken=${() => {
          page.setReference(null);
          page.tell("The browser cannot show that photo; save it as JPEG or PNG first.", "error");
        }} />`}
      <${Toasts} toasts=${toasts} onClose=${page.untell} />
    </main>
    ${files.length > 1 && html`<${Strip} files=${files} current=${photo?.source}
      onOpen=${page.open} />`}
    <div class="hidden" role="status" aria-live="polite">${page.said}</div>
    ${page.help && html`<${Help} about=${page.about} onClose=${() => page.setHelp(false)} />`}
  `;
}

function Tools({ page }) {
  const { photo, about, saving, tool, setTool, modes, mode, save, saveHints, step } = page;
  const { adjusting, places, whereNext, propose, loadHints, clear, saveFilmHints } = page;
  const loadReference = (file) => {
    page.setReference(file);
    if (page.one?.color) page.eyedrop();
    else page.tell("Click a hint, then its eyedropper, then the colour in the other photo.");
  };
  return html`<${Toolbar}
    ...${{ photo, about, saving, tool, setTool, modes, mode, save, saveHints, step }}
    ...${{ adjusting, places, whereNext, propose, loadHints, loadReference, clear, saveFilmHints }}
    history=${page.live.history} count=${page.hints.length} open=${page.choose}
    help=${() => page.setHelp(true)} adjust=${() => page.setAdjusting((on) => !on)} />`;
}

function Photograph({ page }) {
  const { photo, greyUrl, colorUrl, hints, selected, tool, live, places, recent } = page;
  const find = (id) => live.history.hints.find((hint) => hint.id === id);
  const move = (id, x, y) => {
    page.setSelected(id);
    page.edit(id, (hint) => moved(hint, x, y, photo), `move ${id}`);
  };
  return html`<${Stage} ...${{ photo, greyUrl, colorUrl, hints, selected, tool }}
    ...${page.modes} control=${live.control} places=${Array.isArray(places) ? places : []}
    brushSize=${2 * page.usual()} drawColor=${recent[0] || "#888888"}
    onLook=${page.looked} onAdd=${page.add} onDraw=${page.draw} onRemove=${page.remove}
    onSize=${page.resize} onMove=${move} onMoved=${page.dropped}
    onSelect=${(id) => page.pick(find(id))}
    onFocusHint=${(id) => !page.picking && page.setSelected(id)} onPick=${page.pickAt}
    onCorners=${page.redraw} />`;
}

function Popover({ page }) {
  const { live, one, edit, recent } = page;
  const size = "size" in one ? one.size : one.stroke ? one.width : null;
  const resize = (value) =>
    edit(one.id, (h) => ({ ...h, [h.stroke ? "width" : "size"]: value }), `size ${one.id}`);
  return html`<${Picker} key=${one.id} color=${one.color} L=${page.lightness(one)} size=${size}
    maxSize=${page.most()} suggested=${page.suggested} recent=${recent}
    place=${beside(one, live.control)}
    area=${one.polygon || one.mask ? one : null}
    onArea=${(part) => edit(one.id, (h) => areaOf(h, part, recent))}
    onColor=${page.recolor} onSize=${resize} onRemove=${() => page.remove(one.id)}
    onClose=${page.closePicker} onEyedropper=${page.eyedrop} />`;
}

function Adjusting({ page }) {
  const { live, change, settle } = page;
  const reset = () => {
    settle();
    change({ look: PLAIN, scan: USUAL });
  };
  return html`<${Adjust} look=${live.history.look} scan=${live.history.scan} usual=${USUAL}
    onScan=${(scan) => change({ scan })} onLook=${(look, name) => change({ look }, `look ${name}`)}
    onEnd=${settle} onReset=${reset} onClose=${() => page.setAdjusting(false)} />`;
}

/** Where the popover stands: beside its hint, inside the stage. Narrow pages have it below. */
function beside(hint, { toScreen, box }) {
  if (!toScreen || !box || box.width < 700) return {};
  const [wide, high] = [232, 468];
  const points = (hint.polygon || hint.stroke || [placeOf(hint)]).map(toScreen);
  const xs = points.map(([x]) => x);
  const [right, left] = [Math.max(...xs) + 24, Math.min(...xs) - 24 - wide];
  const x = right + wide < box.width ? right : left > 8 ? left : box.width - wide - 8;
  const y = Math.min(Math.max(8, points[0][1] - 90), Math.max(8, box.height - high - 8));
  return { left: `${x}px`, top: `${y}px` };
}
