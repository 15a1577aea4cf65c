// The smaller parts of the page.

import { html, useEffect, useRef, useState } from "../vendor/htm-preact-standalone.js";
import { Pixels } from "./photo.js";

const icon = (path) => html`<svg viewBox="0 0 24 24" aria-hidden="true"><path d=${path} /></svg>`;
const ICONS = {
  open: "M4 7a2 2 0 012-2h4l2 2h6a2 2 0 012 2v8a2 2 0 01-2 2H6a2 2 0 01-2-2z",
  undo: "M9 7L4 12l5 5M4 12h10a6 6 0 016 6",
  redo: "M15 7l5 5-5 5M20 12H10a6 6 0 00-6 6",
  point: "M12 3v5M12 16v5M3 12h5M16 12h5M12 12h.01",
  brush: "M20 4L10 14M7 14a3 3 0 013 3c0 2-2 3-6 3 1-1 1-2 1-3a3 3 0 012-3z",
  lasso: "M12 5c5 0 8 2 8 5s-3 5-8 5-8-2-8-5 3-5 8-5zM8 15c-1 2 1 3 1 4s-1 1.500-2 1.500",
  compare: "M12 3v18M5 6h4v12H5M15 6h4v12h-4",
  hide: "M3 12s3-6 9-6 9 6 9 6-3 6-9 6-9-6-9-6zM12 12h.01M4 20L20 4",
  save: "M12 4v11M7 11l5 5 5-5M5 20h14",
  next: "M12 21s-6-5.500-6-11a6 6 0 1112 0c0 5.500-6 11-6 11zM12 10h.01",
  adjust: "M4 7h9M19 7h1M16 5v4M4 17h3M13 17h7M10 15v4M4 12h1M11 12h9M8 10v4",
  help: "M9 9a3 3 0 116 0c0 2-3 2.500-3 5M12 18h.01",
};

function Button({ name, label, hint, on, wide, ...rest }) {
  return html`<button class=${`icon${on ? " on" : ""}${wide ? " wide" : ""}`} aria-label=${label} title=${`${label}${hint ? ` (${hint})` : ""}`}
    aria-pressed=${on === undefined ? undefined : on} ...${rest}>${icon(ICONS[name])}</button>`;
}

export function Toolbar(props) {
  const { photo, about, history, tool, setTool, modes, mode, step, saving } = props;
  const off = !photo;
  return html`<header role="toolbar" aria-label="Tools">
    <${Button} name="open" label="Open photos" hint="O" onClick=${props.open} />
    <span class="gap"></span>
    <${Button} name="undo" label="Undo" hint="Ctrl+Z" disabled=${off || !history.canUndo} onClick=${() => step("undo")} />
    <${Button} name="redo" label="Redo" hint="Ctrl+Shift+Z" disabled=${off || !history.canRedo} onClick=${() => step("redo")} />
    <span class="gap"></span>
    ${[["point", "Hints", "V"], ["brush", "Brush", "B"], ["lasso", "Lasso", "L"]].map(([name, label, key]) =>
      html`<${Button} key=${name} name=${name} label=${label} hint=${key} disabled=${off}
        on=${tool === name} onClick=${() => setTool(name)} />`)}
    <${Button} wide name="next" label="Where next?" hint="N" disabled=${off} on=${Boolean(props.places)} onClick=${props.whereNext} />
    <span class="gap"></span>
    <${Button} name="adjust" label="Colours of the whole photo" hint="A" disabled=${off} on=${props.adjusting} onClick=${props.adjust} />
    <${Button} wide name="compare" label="Before and after" hint="C" disabled=${off} on=${modes.compare} onClick=${() => mode("compare")} />
    <${Button} wide name="hide" label="Hide the hints" hint="H" disabled=${off} on=${modes.hide} onClick=${() => mode("hide")} />
    <span class="name">${photo ? html`<b>${photo.name}</b> ${photo.width} × ${photo.height}` : ""}</span>
    <${More} ...${props} />
    <button class="main save" disabled=${off || saving} onClick=${() => props.save("")} title="Save the photo at full size (S)">
      ${icon(ICONS.save)}<span>${saving ? "Saving …" : "Save"}</span></button>
    <${Button} wide name="help" label="Help" hint="?" onClick=${props.help} />
  </header>`;
}

function More(props) {
  const { photo, about, count } = props;
  const box = useRef(null);
  const hintInput = useRef(null), referenceInput = useRef(null);
  const done = (work) => () => {
    box.current.open = false;
    work();
  };
  useEffect(() => {
    const away = (event) => {
      if (box.current?.open && !box.current.contains(event.target)) box.current.open = false;
    };
    addEventListener("pointerdown", away);
    return () => removeEventListener("pointerdown", away);
  }, []);
  if (!photo) return null;
  const own = about?.formats[photo.kind] ? photo.kind : "PNG";
  const formats = Object.keys(about?.formats || {}).filter((kind) => kind !== "BMP");
  const take = (work) => (event) => {
    const [file] = event.currentTarget.files;
    event.currentTarget.value = "";
    box.current.open = false;
    if (file) work(file);
  };
  return html`<details class="menu" ref=${box} onKeyDown=${(e) => {
      if (e.key === "Escape") { box.current.open = false; e.stopPropagation(); box.current.querySelector("summary").focus(); }
    }}>
    <summary class="icon" role="button" aria-label="More" title="More">
      <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M6 12h.01M12 12h.01M18 12h.01" /></svg></summary>
    <div class="sheet" role="menu">
      ${formats.map((kind) => html`<button role="menuitem" key=${kind} onClick=${done(() => props.save(about.formats[kind].slice(1)))}>
        Save as ${kind}${kind === own ? " (as the photo)" : ""}</button>`)}
      <button role="menuitem" onClick=${done(() => props.save("tif", "layer"))}>Save the colours alone (TIFF, 16 bits)</button>
      <button role="menuitem" onClick=${done(() => props.save("png", "layer"))}>Save the colours alone (PNG, 16 bits)</button>
      <hr />
      <button role="menuitem" onClick=${done(props.saveHints)} disabled=${!count}>Save the hints</button>
      ${photo.source.film && html`<button role="menuitem" onClick=${done(props.saveFilmHints)}>
        Save the film's hints</button>`}
      <button role="menuitem" onClick=${() => hintInput.current.click()}>Load hints …</button>
      <button role="menuitem" onClick=${() => referenceInput.current.click()}>Colours from another photo …</button>
      <hr />
      <button role="menuitem" onClick=${done(props.clear)} disabled=${!count}>Remove all hints</button>
      <button role="menuitem" onClick=${done(props.whereNext)}>Where next?</button>
      <button role="menuitem" onClick=${done(props.propose)}>Ways to begin</button>
      <button role="menuitem" onClick=${done(() => props.mode("compare"))}>Before and after</button>
      <button role="menuitem" onClick=${done(() => props.mode("hide"))}>${props.modes.hide ? "Show" : "Hide"} the hints</button>
      <button role="menuitem" onClick=${done(props.help)}>Help</button>
      <input class="hidden" type="file" accept=".json,application/json" ref=${hintInput} tabindex="-1"
        aria-label="Hint file" onChange=${take(props.loadHints)} />
      <input class="hidden" type="file" accept="image/*" ref=${referenceInput} tabindex="-1"
        aria-label="Reference photo" onChange=${take(props.loadReference)} />
    </div>
  </details>`;
}

export function Welcome({ open }) {
  return html`<section class="welcome">
    <h1>Drop a photo here</h1>
    <p>or paste it, or <button class="link" onClick=${open}>choose a file</button></p>
    <p class="small">It gets colours at once. Then click a thing and choose its colour.
      Photos stay on the machine that this page comes from.</p>
  </section>`;
}

function Thumbnail({ file }) {
  const [url, setUrl] = useState("");
  const [broken, setBroken] = useState(false);
  useEffect(() => {
    const made = file.blob ? URL.createObjectURL(file.blob) : `/v1/files/${file.number}/thumbnail`;
    setUrl(made);
    return () => file.blob && URL.revokeObjectURL(made);
  }, [file]);
  if (!url || broken) return html`<span class="blank">${file.name.split(".").pop()}</span>`;
  return html`<img src=${url} alt="" loading="lazy" onError=${() => setBroken(true)} />`;
}

export function Strip({ files, current, onOpen }) {
  return html`<nav class="strip" aria-label="Photos">
    ${files.map((file) => {
      const on = current && file.key === current.key;
      return html`<button key=${file.key} class=${on ? "on" : ""} aria-current=${on ? "true" : undefined}
        title=${file.name} aria-label=${file.name} onClick=${() => onOpen(file)}>
        <${Thumbnail} file=${file} />${file.film && html`<span class="frame">${file.frame}</span>`}
      </button>`;
    })}
  </nav>`;
}

export function Reference({ file, picking, onPick, onClose, onBroken }) {
  const [url, setUrl] = useState("");
  useEffect(() => {
    const made = URL.createObjectURL(file);
    setUrl(made);
    return () => URL.revokeObjectURL(made);
  }, [file]);
  const pick = async (event) => {
    if (!picking) return;
    const box = event.currentTarget.getBoundingClientRect();
    const pixels = await Pixels.of(file);
    onPick(pixels.at((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height));
  };
  return html`<aside class=${`reference${picking ? " picking" : ""}`} aria-label="Reference photo">
    <img src=${url || undefined} alt="Reference photo" onError=${() => url && onBroken()} draggable="false" onClick=${pick} />
    <button class="close" aria-label="Close the reference photo" onClick=${onClose}>×</button>
  </aside>`;
}

/** Ways to begin: pictures to choose from. */
export function Proposals({ proposals, onTake, onClose }) {
  useEffect(() => () => proposals.forEach(({ url }) => URL.revokeObjectURL(url)), [proposals]);
  return html`<aside class="proposals" role="dialog" aria-label="Ways to begin"
      onKeyDown=${(e) => e.key === "Escape" && (e.stopPropagation(), onClose())}>
    ${proposals.map((one, i) => html`<button key=${i} onClick=${() => onTake(one)}
      aria-label=${i ? `Proposal ${i}` : "Without hints"}><img src=${one.url} alt="" /></button>`)}
    <button class="close" aria-label="Close" onClick=${onClose}>×</button>
  </aside>`;
}

export function Toasts({ toasts, onClose }) {
  return html`<div class="toasts">
    ${toasts.map((toast) => html`<p key=${toast.id} class=${`toast ${toast.kind}`}
      role=${toast.kind === "error" ? "alert" : "status"}>
      <span>${toast.text}${toast.action && html` <button class="link" onClick=${() => {
        onClose(toast.id);
        toast.action.act();
      }}>${toast.action.label}</button>`}</span><button class="close" aria-label="Close" onClick=${() => onClose(toast.id)}>×</button></p>`)}
  </div>`;
}
