// What is open: the page's state, and what work under way looks up in it.

import { useReducer, useRef, useState } from "../vendor/htm-preact-standalone.js";
import { History, newId } from "./history.js";
import { recentColors } from "./keep.js";

const FIRST = {
  photo: null,
  about: null, // what the server says of itself
  opening: "", // name of the photo that is being opened
  busy: false,
  saving: false,
  greyUrl: "",
  colorUrl: "",
  selected: null, // id of a hint
  picking: false, // the popover is open
  suggested: null, // colours for the hint, or null while they are on their way
  recent: recentColors,
  tool: "point",
  modes: { showGrey: false, compare: false, hide: false },
  help: false,
  files: [], // of the strip: { key, name, blob } or { key, name, number }
  reference: null,
  adjusting: false,
  proposed: null, // ways to begin: null, "asked", or a list
  places: null, // where next: null, "asked", or a list
  toasts: [],
  said: "", // for screen readers
};

/**
 * Every part of FIRST with its setter (`photo`, `setPhoto`), and `live`: one object for all
 * renderings, which work that waits for the server reads to learn what is open by then.
 */
export function usePage() {
  const [, redraw] = useReducer((n) => n + 1, 0);
  const ref = useRef(null);
  ref.current ??= {
    history: new History(), pixels: { grey: null, color: null }, control: {}, timers: {},
  };
  const page = { redraw, live: ref.current };
  for (const [name, first] of Object.entries(FIRST)) {
    const [value, set] = useState(first);
    page[name] = value;
    page[`set${name[0].toUpperCase()}${name.slice(1)}`] = set;
  }
  Object.assign(page.live, { photo: page.photo, selected: page.selected });
  page.hints = page.live.history.hints;
  page.one = page.hints.find((hint) => hint.id === page.selected) || null;

  page.mode = (name, value) => page.setModes((all) => ({ ...all, [name]: value ?? !all[name] }));
  /** action: { label, act } of a button beside the text. */
  page.tell = (text, kind = "note", action = null) => {
    const id = newId();
    page.setToasts((all) => [...all.slice(-3), { id, text, kind, action }]);
    setTimeout(() => page.untell(id), kind === "error" ? 12000 : 7000);
  };
  page.untell = (id) => page.setToasts((all) => all.filter((toast) => toast.id !== id));
  page.fail = (error) => error.name !== "AbortError" && page.tell(error.message, "error");
  return page;
}
