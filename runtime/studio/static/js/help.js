import { html, useEffect, useRef } from "../vendor/htm-preact-standalone.js";

const KEYS = [
  ["Click or tap, Enter", "put a hint on the thing and choose its colour"],
  ["Drag, arrow keys", "move a hint"],
  ["Right click, long press, Delete", "remove a hint"],
  ["[ and ], Ctrl + wheel", "make a hint smaller or larger"],
  ["Ctrl + Z, Ctrl + Shift + Z", "undo, redo"],
  ["Wheel, pinch, + and −, 0", "zoom; 0 shows the whole photo"],
  ["V, B, L", "hints, brush, lasso: draw around an area, or click its corners"],
  ["Enter, Backspace", "close an area of corners, take the last corner back"],
  ["N", "where another hint would tell most"],
  ["P", "ways to begin: whole photos to choose from"],
  ["A", "saturation, warmth and strength of the whole"],
  ["Hold G", "see the grey photo"],
  ["C", "before and after, side by side"],
  ["H", "hide the hints"],
  ["I", "take a colour from the picture"],
  ["O, S", "open a photo, save the result"],
  ["Page Up, Page Down", "the photo before, the next one"],
  ["?", "this page"],
];

export function Help({ about, onClose }) {
  const box = useRef(null);
  useEffect(() => {
    box.current.showModal();
    box.current.scrollTop = 0; // the focus lies on the button at the end
  }, []);
  return html`<dialog class="help" ref=${box} onClose=${onClose} aria-label="Help"
      onClick=${(e) => e.target === box.current && box.current.close()}>
    <h2>How it works</h2>
    <p>Only the hue and strength of a hint count; light and dark stay those of the photo.
      A hint colours the thing it lies on. If too little takes it, put another one there; if too
      much does, put a hint of the right colour on the rest.</p>
    <dl>${KEYS.map(([key, what]) => html`<dt>${key}</dt><dd>${what}</dd>`)}</dl>
    <p class="small">Photos stay on the machine that this page comes from. ${about
      && `hscaunet ${about.version}, ${about.engine.replace(/[<>]/g, "")}.`}</p>
    <form method="dialog"><button class="main">Close</button></form>
  </dialog>`;
}
