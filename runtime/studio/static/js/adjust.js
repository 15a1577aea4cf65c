// The look of the whole result: numbers that a hint file keeps.

import { html } from "../vendor/htm-preact-standalone.js";

const SLIDERS = [
  ["saturation", "Saturation", 0, 2, "how strong the colours are"],
  ["warmth", "Warmth", -1, 1, "colder or warmer"],
  ["strength", "Strength", 0, 1, "how much of the new colours, against the photo's own"],
];

const CHANNELS = [["luminance", "All colours"], ["cleanest", "Least stained"], ["red", "Red"],
  ["green", "Green"], ["blue", "Blue"]];

export function Adjust({ look, scan, usual, onScan, onLook, onEnd, onReset, onClose }) {
  const keys = (event) => {
    if (event.key === "Escape") {
      event.stopPropagation();
      onClose();
    }
  };
  return html`<aside class="adjust" role="dialog" aria-label="Colours of the whole photo" onKeyDown=${keys}>
    ${SLIDERS.map(([name, label, low, high, title]) => html`<label key=${name} title=${title}>
      <span>${label}</span>
      <input type="range" min=${low} max=${high} step="0.02" value=${look[name]}
        onInput=${(e) => onLook({ ...look, [name]: Number(e.currentTarget.value) }, name)} onChange=${onEnd} />
      <output>${Math.round(100 * look[name])}</output></label>`)}
    <label title="of a scan with stains: which of its colours tells light from dark">
      <span>Grey from</span>
      <select value=${scan.channel} onChange=${(e) => onScan({ ...scan, channel: e.currentTarget.value })}>
        ${CHANNELS.map(([value, text]) => html`<option key=${value} value=${value}>${text}</option>`)}
      </select></label>
    <label class="row"><input type="checkbox" checked=${scan.levels === "auto"}
      onChange=${(e) => onScan({ ...scan, levels: e.currentTarget.checked ? "auto" : usual.levels })} /> Full contrast</label>
    <label class="row"><input type="checkbox" checked=${scan.even === "1"}
      onChange=${(e) => onScan({ ...scan, even: e.currentTarget.checked ? "1" : "0" })} /> Even out the paper</label>
    <div class="row end">
      <button onClick=${onReset}>Reset</button>
      <button class="main" onClick=${onClose}>Done</button>
    </div>
  </aside>`;
}
