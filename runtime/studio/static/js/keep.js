// What a reload brings back: the photos of the strip, each with its hints and steps, in this browser
// only (IndexedDB). Each tab has a strip of its own; what no tab has any more is thrown away.


function base() {
  return new Promise((resolve, reject) => {
    const asked = indexedDB.open("hscaunet-studio", 1);
    asked.onupgradeneeded = () => asked.result.createObjectStore("kept");
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });
}

async function step(mode, work) {
  try {
    const db = await base();
    return await new Promise((resolve, reject) => {
      const asked = work(db.transaction("kept", mode).objectStore("kept"));
      asked.onsuccess = () => resolve(asked.result);
      asked.onerror = () => reject(asked.error);
    }).finally(() => db.close());
  } catch {
    return undefined; // private windows may have none: then a reload begins anew
  }
}

const put = (key, value) => step("readwrite", (store) => store.put(value, key));
const get = (key) => step("readonly", (store) => store.get(key));

const TABS = 4; // strips that are kept: those used last

function tab() {
  try {
    const known = sessionStorage.getItem("hscaunet-tab") || newKey();
    sessionStorage.setItem("hscaunet-tab", known);
    return known;
  } catch {
    return "tab";
  }
}

export const newKey = () => Math.random().toString(36).slice(2) + Date.now().toString(36);

/** Of a photo of the server's machine: the same after a restart. */
export const keyOfFile = (number, name) => `file ${number} ${name}`;

/** Keep a photo of this browser: { key, name, blob, tolerant }. */
export const keepPhoto = ({ key, name, blob, tolerant }) =>
  blob && put(`photo ${key}`, { name, blob, tolerant });

/** Keep a photo's hints and steps. */
export const keepHints = (key, { states, index }) => put(`hints ${key}`, { states, index });
export const keptHints = (key) => get(`hints ${key}`);

/** Keep which photos the strip has, by their keys, and which is open. */
export async function keepStrip(keys, current) {
  const tabs = (await get("tabs")) || {};
  tabs[tab()] = { keys, current, time: Date.now() };
  const newest = Object.entries(tabs).sort(([, a], [, b]) => b.time - a.time).slice(0, TABS);
  await put("tabs", Object.fromEntries(newest));
  const used = new Set(newest.flatMap(([, strip]) => strip.keys));
  const all = (await step("readonly", (store) => store.getAllKeys())) || [];
  for (const name of all) {
    const [kind, ...rest] = String(name).split(" ");
    const key = rest.join(" ");
    if (["photo", "hints"].includes(kind) && !used.has(key) && !key.startsWith("file ")) {
      await step("readwrite", (store) => store.delete(name));
    }
  }
}

/** The strip of this tab, or the one used last: { photos: [{ key, name, blob }], current }. */
export async function keptStrip() {
  const tabs = (await get("tabs")) || {};
  const last = Object.values(tabs).sort((a, b) => b.time - a.time)[0];
  const strip = tabs[tab()] || last || { keys: [], current: null };
  const photos = [];
  for (const key of strip.keys) {
    const found = await get(`photo ${key}`);
    if (found) photos.push({ key, ...found });
  }
  return { photos, current: strip.current };
}

const RECENT = "hscaunet-recent";

export function recentColors() {
  try {
    const found = JSON.parse(localStorage.getItem(RECENT) || "[]");
    return found.filter((c) => /^#[0-9a-f]{6}$/.test(c)).slice(0, 12);
  } catch {
    return [];
  }
}

export function rememberColor(color) {
  try {
    const rest = recentColors().filter((c) => c !== color);
    localStorage.setItem(RECENT, JSON.stringify([color, ...rest].slice(0, 12)));
  } catch { /* no storage: no recent colours */ }
}
