// The server's addresses; docs/studio.md.

export class ServerError extends Error {
  constructor(status, sentence, cutShort = false) {
    super(sentence);
    Object.assign(this, { status, cutShort });
  }
}

async function ask(method, address, body, signal) {
  let answer;
  try {
    answer = await fetch(address, { method, body, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError(0, "The studio's server does not answer; start it again.");
  }
  if (answer.ok) return answer;
  let said = {};
  try {
    said = await answer.json();
  } catch { /* no JSON: the number must do */ }
  const sentence = said.error || `The server answered ${answer.status}.`;
  throw new ServerError(answer.status, sentence, said.cut_short);
}

const json = async (answer) => (await answer).json();
const q = encodeURIComponent;

export const about = () => json(ask("GET", "/v1/about"));
// tolerant: take what there is of a file that is cut short.
export const openPhoto = (blob, name, tolerant) =>
  json(ask("POST", `/v1/photos?name=${q(name)}&tolerant=${tolerant ? 1 : 0}`, blob));
export const openFile = (number, tolerant) =>
  json(ask("POST", `/v1/files/${number}?tolerant=${tolerant ? 1 : 0}`));
export const closePhoto = (key) => ask("DELETE", `/v1/photos/${key}`).catch(() => {});
// scan: how the photo becomes grey, a query; file: a hint file's text.
export const grey = async (key, side, { scan }) =>
  (await ask("GET", `/v1/photos/${key}/grey?side=${side}&${scan}`)).blob();
export const preview = async (key, side, { scan, file }) =>
  (await ask("POST", `/v1/photos/${key}/preview?side=${side}&${scan}`, file)).blob();
export const suggest = (key, x, y, { scan, file }) =>
  json(ask("POST", `/v1/photos/${key}/suggest?x=${x}&y=${y}&k=6&${scan}`, file));
export const places = (key, k, { scan, file }) =>
  json(ask("POST", `/v1/photos/${key}/places?k=${k}&${scan}`, file));

export const proposals = (key, k, { scan }) =>
  json(ask("POST", `/v1/photos/${key}/proposals?k=${k}&${scan}`));

/** A hint file's text, read and scaled to the photo by the server: { hints, ... }. */
export const readHints = (key, text) => json(ask("POST", `/v1/photos/${key}/hints`, text));

/** A picture at full size, "result" or "layer": { blob, name, notes }. */
export async function picture(key, what, format, { scan, file }) {
  const answer = await ask("POST", `/v1/photos/${key}/${what}?format=${q(format)}&${scan}`, file);
  const name = /filename\*=UTF-8''([^;]+)/.exec(answer.headers.get("content-disposition"));
  const notes = JSON.parse(answer.headers.get("hscaunet-notes") || "[]");
  return { blob: await answer.blob(), name: decodeURIComponent(name[1]), notes };
}
