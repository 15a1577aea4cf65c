// The page: what is open, and what every control does to it.

import { html, useEffect, useReducer, useRef, useState } from "../vendor/htm-preact-standalone.js";
import * as api from "./api.js";
import { hexOfLab, hexOfRgb, labOfHex, labOfRgb, nameOf, nearest } from "./color.js";
import { Help } from "./help.js";
import { History, PLAIN, USUAL, moved, newId, ofFile, placeOf, toFile } from "./history.js";
import {
  keepHints, keepPhoto, keepStrip, keptHints, keptStrip, keyOfFile, newKey, recentColors, rememberColor,
} from "./keep.js";
import { Newest } from "./newest.js";
import { Photo, Pixels } from "./photo.js";
import { Picker } from "./picker.js";
import { download, filesOf, isHintFile, isPicture } from "./save.js";
import { Stage } from "./stage.js";
import { Adjust } from "./adjust.js";
import { Proposals, Reference, Strip, Toasts, Toolbar, Welcome } from "./parts.js";

const SIDE = 1024, CLOSE_SIDE = 2560; // of previews, and of those that are looked at closely

export function App() {
  const [, redraw] = useReducer((n) => n + 1, 0);
  const [photo, setPhoto] = useState(null);
  const [about, setAbout] = useState(null);
  const [opening, setOpening] = useState("");
  const [busy, setBusy] = useState(false);
  const [saving, setSaving] = useState(false);
  const [greyUrl, setGreyUrl] = useState("");
  const [colorUrl, setColorUrl] = useState("");
  const [selected, setSelected] = useState(null);
  const [picking, setPicking] = useState(false); // the popover is open
  const [suggested, setSuggested] = useState(null);
  const [recent, setRecent] = useState(recentColors);
  const [tool, setTool] = useState("point");
  const [modes, setModes] = useState({ showGrey: false, compare: false, hide: false });
  const [help, setHelp] = useState(false);
  const [files, setFiles] = useState([]); // of the strip: { key, name, blob } or { key, name, number }
  const [reference, setReference] = useState(null);
  const [adjusting, setAdjusting] = useState(false);
  const [proposed, setProposed] = useState(null); // ways to begin: null, "asked", or a list
  const [places, setPlaces] = useState(null); // where next: null, "asked", or a list
  const [toasts, setToasts] = useState([]);
  const [said, say] = useState(""); // for screen readers
  const history = useRef(new History());
  const newest = useRef(null);
  const pixels = useRef({ grey: null, color: null });
  const control = useRef({});
  const fileInput = useRef(null);
  const state = useRef({});
  const hints = history.current.hints;
  const one = hints.find((h) => h.id === selected) || null;
  const side = useRef(SIDE);
  Object.assign(state.current, { photo, selected });

  const tell = (text, kind = "note") => {
    const id = newId();
    setToasts((all) => [...all.slice(-3), { id, text, kind }]);
    setTimeout(() => setToasts((all) => all.filter((t) => t.id !== id)), kind === "error" ? 12000 : 7000);
  };
  const fail = (error) => error.name !== "AbortError" && tell(error.message, "error");

  // Pictures: asked for one at a time, the newest hints last

  const show = async (url, set, blob, name) => {
    pixels.current[name] = await Pixels.of(blob);
    const image = new Image();
    image.src = url;
    await image.decode();
    set((old) => {
      if (old) setTimeout(() => URL.revokeObjectURL(old), 500);
      return url;
    });
  };
  const showGrey = async (p, now, wanted) => {
    const blob = await p.grey(wanted, now);
    if (state.current.photo !== p) return;
    Object.assign(p, { shownScan: now.scan, shownSide: wanted });
    await show(URL.createObjectURL(blob), setGreyUrl, blob, "grey");
  };
  if (!newest.current) {
    newest.current = new Newest(async ({ photo: p, state: now, side: s }) => {
      if (state.current.photo !== p) return;
      if (now.scan !== p.shownScan || s !== p.shownSide) await showGrey(p, now, s);
      const blob = await p.preview(s, now);
      if (state.current.photo !== p) return;
      await show(URL.createObjectURL(blob), setColorUrl, blob, "color");
    }, setBusy, fail);
  }
  const refresh = (p = state.current.photo) =>
    p && newest.current.ask({ photo: p, state: history.current.state, side: side.current });
  const changed = (list, join = null) => change({ hints: list }, join);
  const change = (part, join = null) => {
    history.current.set(part, join);
    follow();
  };
  const follow = () => { // what every other state brings
    setPlaces(null);
    redraw();
    refresh();
    remember();
  };
  const remember = () => {
    const { photo: p } = state.current, now = history.current;
    clearTimeout(now.timer);
    now.timer = setTimeout(() => p && keepHints(p.source.key, now), 250);
  };

  // Opening

  const open = async (source) => {
    setOpening(source.name);
    setPicking(false);
    setSelected(null);
    setPlaces(null);
    setProposed(null);
    const number = (state.current.opening = (state.current.opening || 0) + 1);
    state.current.wanted = source;
    try {
      const [next, past] = await Promise.all([
        Photo.open(source), source.past || keptHints(source.key),
      ]);
      if (number !== state.current.opening) { // another photo was asked for meanwhile
        next.close();
        return false;
      }
      state.current.photo?.close();
      history.current = past ? new History(past.states, past.index) : new History();
      source.past = history.current;
      pixels.current = { grey: null, color: null };
      side.current = SIDE;
      setGreyUrl("");
      setColorUrl("");
      state.current.photo = next;
      setPhoto(next);
      next.notes.forEach((note) => tell(note));
      document.title = `${next.name} – Studio`;
      await refresh(next);
      return true;
    } catch (error) {
      if (source.blob && error.status === 422) setFiles((all) => all.filter((f) => f !== source));
      if (number === state.current.opening) fail(error);
      return false;
    } finally {
      if (number === state.current.opening) setOpening("");
    }
  };
  const openFiles = async (list) => {
    const hintFile = list.find(isHintFile);
    const pictures = list.filter(isPicture);
    const left = list.length - pictures.length - list.filter(isHintFile).length;
    if (left > 0) tell(`${left} file${left > 1 ? "s are no pictures" : " is no picture"} by its name; left out.`);
    if (pictures.length) {
      const sources = pictures.map((blob) => ({ key: newKey(), name: blob.name || "pasted.png", blob }));
      sources.forEach(keepPhoto);
      setFiles((all) => [...all, ...sources]);
      if (!(await open(sources[0]))) return; // its hints are of no use to another photo
    }
    if (hintFile) await loadHints(hintFile);
  };
  const loadHints = async (file) => {
    const { photo: p } = state.current;
    if (!p) return tell("Open the photo first, then its hint file.", "error");
    try {
      change(ofFile(await p.readHints(await file.text())));
      tell(`${history.current.hints.length} hints of ${file.name}.`);
    } catch (error) {
      fail(error);
    }
  };
  useEffect(() => {
    (async () => {
      let found = { files: [] };
      try {
        found = await api.about();
        setAbout(found);
      } catch (error) {
        fail(error);
      }
      const offered = found.files.map((name, number) => ({ key: keyOfFile(number, name), name, number }));
      const { photos, current } = await keptStrip();
      const all = [...photos, ...offered];
      // A person may have opened something already.
      setFiles((now) => [...all.filter((one) => !now.some((n) => n.key === one.key)), ...now]);
      const last = all.find((one) => one.key === current) || all[0];
      if (last && !state.current.opening) await open(last);
    })();
  }, []);

  // Hints

  const lightness = (hint) => {
    const points = hint.polygon || [placeOf(hint)];
    const [x, y] = [0, 1].map((i) => points.reduce((sum, p) => sum + p[i], 0) / points.length);
    const { grey } = pixels.current;
    if (!grey) return 50;
    return labOfRgb(grey.at((x + 0.5) / photo.width, (y + 0.5) / photo.height))[0];
  };
  const usual = () => Math.max(1, Math.round((Math.sqrt(photo.width * photo.height) * 5) / 256));
  const colorAt = (x, y) => {
    const { color, grey } = pixels.current;
    const from = color || grey;
    if (!from) return "#808080";
    return hexOfRgb(from.at((x + 0.5) / photo.width, (y + 0.5) / photo.height));
  };
  const pick = async (hint) => {
    setSelected(hint.id);
    setPicking(true);
    setSuggested(null);
    const [x, y] = placeOf(hint);
    try {
      const now = history.current.state;
      const rest = { ...now, hints: now.hints.filter((h) => h.id !== hint.id) };
      const { colors } = await photo.suggest(x, y, rest);
      if (state.current.selected === hint.id) setSuggested(colors);
    } catch (error) {
      if (state.current.selected === hint.id) setSuggested([]);
      fail(error);
    }
  };
  const add = (x, y) => {
    mode("hide", false);
    const hint = { id: newId(), x, y, color: colorAt(x, y), size: usual() };
    changed([...history.current.hints, hint]);
    say(`Hint at ${x}, ${y}`);
    pick(hint);
  };
  const draw = (kind, points) => {
    const color = recent[0] || colorAt(...points[0]);
    const thin = points.filter((_, i) => i % Math.ceil(points.length / 2000) === 0);
    if (kind === "lasso" && thin.length < 3) return;
    const shape = kind === "brush" ? { stroke: thin, width: 2 * usual() }
      : { polygon: thin, only_inside: true };
    const hint = { id: newId(), ...shape, color };
    changed([...history.current.hints, hint]);
    pick(hint);
  };
  const edit = (id, change, join) =>
    changed(history.current.hints.map((h) => (h.id === id ? change(h) : h)), join);
  const settle = () => { history.current.joined = null; }; // what follows is a step of its own
  const recolor = (hex, done) => {
    if (!one) return;
    edit(one.id, (h) => (h.keep ? h : { ...h, color: hex }), `color ${one.id}`);
    if (done) {
      settle();
      say(`${nameOf(hex)}, ${hex}`);
    }
  };
  const chosen = (hex) => {
    rememberColor(hex);
    setRecent(recentColors());
  };
  const remove = (id) => {
    changed(history.current.hints.filter((h) => h.id !== id));
    if (id === state.current.selected) {
      setSelected(null);
      setPicking(false);
    }
    say("Hint removed");
  };
  const whereNext = async () => {
    if (places) return setPlaces(null);
    setPlaces("asked");
    try {
      const now = history.current.state;
      const found = await photo.places(5, now);
      if (state.current.photo !== photo || history.current.state !== now) return;
      setPlaces(found.places);
      say(`${found.places.length} places`);
    } catch (error) {
      setPlaces(null);
      fail(error);
    }
  };
  const propose = async () => {
    if (proposed) return setProposed(null);
    setProposed("asked");
    const now = history.current.state;
    try {
      const found = await photo.proposals(4, now);
      const made = [];
      for (const file of found.proposals) {
        const begun = { ...now, ...ofFile(file), look: now.look };
        made.push({ state: begun, url: URL.createObjectURL(await photo.preview(240, begun)) });
      }
      if (state.current.photo === photo) setProposed(made);
      refresh(); // the session has the present hints again
    } catch (error) {
      setProposed(null);
      fail(error);
    }
  };
  const most = () => Math.max(2, Math.round(Math.sqrt(photo.width * photo.height) * 0.15));
  const resize = (id, by) => {
    const fit = (v) => Math.min(most(), Math.max(1, by > 1 ? Math.ceil(v * by) : Math.floor(v * by)));
    edit(id, (h) => ("size" in h ? { ...h, size: fit(h.size) } : h.stroke ? { ...h, width: fit(h.width) } : h), `size ${id}`);
  };
  const closePicker = () => {
    setPicking(false);
    settle();
    if (one?.color) chosen(one.color);
    document.querySelector(`.marker[data-id="${selected}"]`)?.focus({ preventScroll: true });
  };
  const step = (way) => {
    if (!(way === "undo" ? history.current.canUndo : history.current.canRedo)) return;
    history.current[way]();
    if (!history.current.hints.some((h) => h.id === state.current.selected)) {
      setSelected(null);
      setPicking(false);
    }
    follow();
    say(`${way === "undo" ? "Taken back" : "Done again"}, ${history.current.hints.length} hints`);
  };
  const eyedropped = (rgb) => {
    setTool("point");
    if (!one?.color) return;
    const L = lightness(one);
    recolor(hexOfLab(nearest([L, ...labOfRgb(rgb).slice(1)])), true);
    setPicking(true);
  };

  // Out

  const save = async (format, what = "result") => {
    setSaving(true);
    try {
      const made = await photo.picture(what, format, history.current.state);
      download(made.blob, made.name);
      made.notes.forEach((note) => tell(note));
    } catch (error) {
      fail(error);
    } finally {
      setSaving(false);
    }
  };
  const saveHints = () => {
    const text = toFile(history.current.state, photo);
    download(new Blob([text], { type: "application/json" }), `${photo.name.replace(/\.[^.]*$/, "")}.hints.json`);
  };

  const opened = photo?.source.key;
  useEffect(() => {
    if (opened) keepStrip(files.map((one) => one.key), opened);
  }, [files, opened]);

  // Keys for all of the page

  const mode = (name, value) => setModes((m) => ({ ...m, [name]: value ?? !m[name] }));
  const beside = (by) => {
    const now = state.current.wanted;
    const at = files.findIndex((one) => one.key === now?.key);
    const next = files[at + by];
    if (next) open(next);
  };
  useEffect(() => {
    const down = (event) => {
      const inside = (selector) => event.target.closest?.(selector);
      const typing = inside("input:not([type=range], [type=checkbox]), select, textarea, dialog");
      const slides = inside("[type=range]") && /^(Arrow|Home|End|Page)/.test(event.key);
      if (event.key === "Escape") {
        if (tool === "pick") {
          setTool("point");
          if (one) setPicking(true);
        } else if (control.current.cancel?.()) return;
        else if (tool !== "point") setTool("point");
        else setPicking(false);
        return;
      }
      const command = event.ctrlKey || event.metaKey;
      if (command && event.key.toLowerCase() === "z" && !typing) {
        event.preventDefault();
        return step(event.shiftKey ? "redo" : "undo");
      }
      if (command && event.key.toLowerCase() === "y" && !typing) {
        event.preventDefault();
        return step("redo");
      }
      const shifted = event.getModifierState("AltGraph"); // [ and ] of many keyboards
      if (typing || slides || ((command || event.altKey) && !shifted)) return;
      const keys = {
        "?": () => setHelp(true), o: () => fileInput.current.click(),
        ...(photo && {
          g: () => mode("showGrey", true), c: () => mode("compare"), h: () => mode("hide"),
          v: () => setTool("point"), b: () => setTool("brush"), l: () => setTool("lasso"),
          i: () => one?.color && (setPicking(false), setTool("pick")), s: () => save(""),
          n: whereNext, p: propose, a: () => setAdjusting((on) => !on),
          "+": () => control.current.zoom?.(1.4), "=": () => control.current.zoom?.(1.4),
          "-": () => control.current.zoom?.(1 / 1.4), 0: () => control.current.fit?.(),
          "[": () => one && resize(one.id, 1 / 1.2), "]": () => one && resize(one.id, 1.2),
          Delete: () => one && remove(one.id), Backspace: () => one && remove(one.id),
          PageUp: () => beside(-1), PageDown: () => beside(1),
        }),
      };
      if (!event.repeat && "blvn".includes(event.key.toLowerCase())) mode("hide", false);
      const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
      if (!act || (event.repeat && !"+-=[]".includes(event.key))) return;
      event.preventDefault();
      act();
    };
    const up = (event) => event.key.toLowerCase() === "g" && mode("showGrey", false);
    const blur = () => mode("showGrey", false);
    const paste = (event) => filesOf(event.clipboardData).then((list) => list.length && openFiles(list));
    const over = (event) => event.preventDefault();
    const drop = (event) => {
      event.preventDefault();
      filesOf(event.dataTransfer).then((list) => list.length && openFiles(list), fail);
    };
    const bound = { keydown: down, keyup: up, blur, paste, dragover: over, drop };
    for (const [name, handle] of Object.entries(bound)) addEventListener(name, handle);
    return () => {
      for (const [name, handle] of Object.entries(bound)) removeEventListener(name, handle);
    };
  });

  // Closer looks get a sharper picture

  const onZoom = (by) => {
    redraw(); // the popover goes along
    const wanted = by > 1.6 ? CLOSE_SIDE : SIDE;
    if (!photo || wanted === side.current || Math.max(photo.width, photo.height) <= SIDE) return;
    clearTimeout(state.current.zoomTimer);
    state.current.zoomTimer = setTimeout(() => {
      side.current = wanted;
      refresh();
    }, 350);
  };

  const anchor = one && control.current.toScreen?.(placeOf(one));
  const size = one && ("size" in one ? one.size : one.stroke ? one.width : null);
  return html`
    <${Toolbar} ...${{ photo, about, busy, saving, tool, setTool, modes, mode, save, saveHints }}
      history=${history.current} count=${hints.length} step=${step}
      open=${() => fileInput.current.click()} help=${() => setHelp(true)}
      clear=${() => { setPicking(false); setSelected(null); changed([]); }}
      ...${{ adjusting, places, whereNext, propose }} adjust=${() => setAdjusting((on) => !on)}
      loadReference=${(file) => {
        setReference(file);
        if (one?.color) { setPicking(false); setTool("pick"); }
        else tell("Click a hint, then its eyedropper, then the colour in the other photo.");
      }} loadHints=${loadHints} />
    <input class="hidden" type="file" multiple ref=${fileInput} tabindex="-1" aria-label="Open photos"
      accept="image/*,.tif,.tiff,.heic,.heif,.jp2,.json"
      onChange=${(e) => { const list = [...e.currentTarget.files]; e.currentTarget.value = ""; openFiles(list); }} />
    <main class=${photo && picking && one ? "picking" : ""} aria-busy=${busy || Boolean(opening)}>
      ${photo ? html`<${Stage} ...${{ photo, greyUrl, colorUrl, hints, selected, tool, control, onZoom }}
          places=${Array.isArray(places) ? places : []}
          ...${modes} brushSize=${2 * usual()} drawColor=${recent[0] || "#888888"}
          onAdd=${add} onDraw=${draw} onRemove=${remove} onSize=${resize}
          onMove=${(id, x, y) => { setSelected(id); edit(id, (h) => moved(h, x, y, photo), `move ${id}`); }}
          onMoved=${() => { settle(); setPicking(false); }}
          onSelect=${(id) => pick(history.current.hints.find((h) => h.id === id))}
          onFocusHint=${(id) => !picking && setSelected(id)}
          onPick=${(x, y) => pixels.current.color && eyedropped(pixels.current.color.at((x + 0.5) / photo.width, (y + 0.5) / photo.height))} />`
        : !opening && html`<${Welcome} open=${() => fileInput.current.click()} />`}
      ${photo && picking && one && !modes.hide && html`<${Picker} key=${one.id} color=${one.color}
        L=${lightness(one)} size=${size} maxSize=${most()} suggested=${suggested} recent=${recent}
        place=${besideHint(anchor, control.current.box)} onColor=${recolor}
        onSize=${(v) => edit(one.id, (h) => (h.stroke ? { ...h, width: v } : { ...h, size: v }), `size ${one.id}`)}
        area=${one.polygon || one.mask ? one : null} onArea=${(part) => edit(one.id, (h) => areaOf(h, part, recent))}
        onRemove=${() => remove(one.id)} onClose=${closePicker}
        onEyedropper=${() => { setPicking(false); setTool("pick"); }} />`}
      ${photo && adjusting && html`<${Adjust} look=${history.current.look}
        scan=${history.current.scan} usual=${USUAL} onScan=${(scan) => change({ scan })}
        onLook=${(look, name) => change({ look }, `look ${name}`)} onEnd=${settle}
        onReset=${() => { settle(); change({ look: PLAIN, scan: USUAL }); }} onClose=${() => setAdjusting(false)} />`}
      ${Array.isArray(proposed) && html`<${Proposals} proposals=${proposed} onClose=${() => setProposed(null)}
        onTake=${(chosenOne) => { setProposed(null); setPicking(false); settle(); change({ hints: chosenOne.state.hints }); }} />`}
      ${(busy || opening || places === "asked" || proposed === "asked") && html`<div class="progress" role="progressbar" aria-label="Working"></div>`}
      ${opening && html`<p class="opening">Opening ${opening} …</p>`}
      ${tool === "pick" && html`<p class="banner">Click where the colour is${reference ? ", here or in the reference" : ""}. Esc ends it.</p>`}
      ${reference && html`<${Reference} file=${reference} onBroken=${() => {
        setReference(null);
        tell("The browser cannot show that photo; save it as JPEG or PNG first.", "error");
      }} picking=${tool === "pick"} onPick=${eyedropped}
        onClose=${() => setReference(null)} />`}
    </main>
    ${files.length > 1 && html`<${Strip} files=${files} current=${photo?.source} onOpen=${(f) => open(f)} />`}
    <${Toasts} toasts=${toasts} onClose=${(id) => setToasts((all) => all.filter((t) => t.id !== id))} />
    <div class="hidden" role="status" aria-live="polite">${said}</div>
    ${help && html`<${Help} about=${about} onClose=${() => setHelp(false)} />`}
  `;
}

/** A region as another kind: of a colour, left grey, or left as it is. */
function areaOf(hint, { keep, only_inside }, recent) {
  const { keep: _, only_inside: before, color, ...rest } = hint;
  if (keep) return { ...rest, keep };
  const bound = only_inside ?? before ?? true;
  return { ...rest, color: color || recent[0] || "#808080", ...(bound && { only_inside: true }) };
}

/** Where the popover stands: beside its hint, inside the stage. Narrow pages have it below. */
function besideHint(anchor, box) {
  if (!anchor || !box || box.width < 700) return {};
  const [wide, high] = [232, 468];
  const right = anchor[0] + 24 + wide < box.width;
  const x = right ? anchor[0] + 24 : Math.max(8, anchor[0] - 24 - wide);
  const y = Math.min(Math.max(8, anchor[1] - 90), Math.max(8, box.height - high - 8));
  return { left: `${x}px`, top: `${y}px` };
}
