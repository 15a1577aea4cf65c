// What a reload brings back: the photo and its hints, in this browser only (IndexedDB).

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

export const keep = (name, value) => step("readwrite", (store) => store.put(value, name));
export const kept = (name) => step("readonly", (store) => store.get(name));
export const forget = (name) => step("readwrite", (store) => store.delete(name));

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
