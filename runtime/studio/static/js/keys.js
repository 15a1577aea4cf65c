// Keys for all of the page, and what is pasted or dropped anywhere on it.

import { useEffect } from "../vendor/htm-preact-standalone.js";
import { filesOf } from "./save.js";

/** Escape ends the innermost thing that is under way. */
function escape({ tool, one, live, setTool, setPicking }) {
  if (tool === "pick") {
    setTool("point");
    if (one) setPicking(true);
  } else if (live.control.cancel?.()) return;
  else if (tool !== "point") setTool("point");
  else setPicking(false);
}

/** What a key without Ctrl does; those behind `photo` need one. */
function shortcuts(page) {
  const { photo, one, live, mode, setTool } = page;
  const { control } = live;
  const all = { "?": () => page.setHelp(true), o: page.choose };
  if (!photo) return all;
  const removed = () => !control.back?.() && one && page.remove(one.id);
  return {
    ...all,
    g: () => mode("showGrey", true), c: () => mode("compare"), h: () => mode("hide"),
    v: () => setTool("point"), b: () => setTool("brush"), l: () => setTool("lasso"),
    i: () => page.eyedrop(), s: () => page.save(""),
    n: page.whereNext, p: page.propose, a: () => page.setAdjusting((on) => !on),
    "+": () => control.zoom?.(1.4), "=": () => control.zoom?.(1.4),
    "-": () => control.zoom?.(1 / 1.4), 0: () => control.fit?.(),
    "[": () => one && page.resize(one.id, 1 / 1.2), "]": () => one && page.resize(one.id, 1.2),
    Delete: removed, Backspace: removed,
    PageUp: () => page.beside(-1), PageDown: () => page.beside(1),
  };
}

function pressed(event, page) {
  const inside = (selector) => event.target.closest?.(selector);
  const typing = inside("input:not([type=range], [type=checkbox]), select, textarea, dialog");
  const slides = inside("[type=range]") && /^(Arrow|Home|End|Page)/.test(event.key);
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key === "Escape") return escape(page);
  const command = event.ctrlKey || event.metaKey;
  if (command && !typing && (key === "z" || key === "y")) {
    event.preventDefault();
    return page.step(key === "y" || event.shiftKey ? "redo" : "undo");
  }
  const shifted = event.getModifierState("AltGraph"); // [ and ] of many keyboards
  if (typing || slides || ((command || event.altKey) && !shifted)) return undefined;
  if (!event.repeat && "blvn".includes(key)) page.mode("hide", false);
  const act = shortcuts(page)[key];
  if (!act || (event.repeat && !"+-=[]".includes(key))) return undefined;
  event.preventDefault();
  return act();
}

export function useKeys(page) {
  const take = (transfer) =>
    filesOf(transfer).then((list) => list.length && page.openFiles(list), page.fail);
  const bound = {
    keydown: (event) => pressed(event, page),
    keyup: (event) => event.key.toLowerCase() === "g" && page.mode("showGrey", false),
    blur: () => page.mode("showGrey", false),
    paste: (event) => take(event.clipboardData),
    dragover: (event) => event.preventDefault(),
    drop: (event) => {
      event.preventDefault();
      take(event.dataTransfer);
    },
  };
  useEffect(() => {
    for (const [name, handle] of Object.entries(bound)) addEventListener(name, handle);
    return () => {
      for (const [name, handle] of Object.entries(bound)) removeEventListener(name, handle);
    };
  });
}
