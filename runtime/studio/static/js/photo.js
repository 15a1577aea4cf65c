// A photo that is open: the server's session, opened again when it has been closed meanwhile.

import * as api from "./api.js";
import { toFile } from "./history.js";

export class Photo {
  /**
   * source: { blob, name } of this browser, or { number, name } of the server's machine; tolerant:
   * take what there is of it, if it is cut short.
   */
  static async open(source) {
    const photo = new Photo();
    photo.source = source;
    await photo.reopen();
    return photo;
  }

  async reopen() {
    const { blob, number, name, tolerant } = this.source;
    const found = blob ? api.openPhoto(blob, name, tolerant) : api.openFile(number, tolerant);
    Object.assign(this, await found);
  }

  /** Do something with the session; once more if it was gone. */
  async with(work) {
    try {
      return await work(this.key);
    } catch (error) {
      if (this.closed) throw new DOMException("the photo was closed", "AbortError");
      if (error.status !== 410) throw error;
      await this.reopen();
      return work(this.key);
    }
  }

  // state: of a History
  grey = (side, state) => this.with((key) => api.grey(key, side, this.asked(state)));
  preview = (side, state) => this.with((key) => api.preview(key, side, this.asked(state)));
  suggest = (x, y, state) => this.with((key) => api.suggest(key, x, y, this.asked(state)));
  places = (k, state) => this.with((key) => api.places(key, k, this.asked(state)));
  proposals = (k, state) => this.with((key) => api.proposals(key, k, this.asked(state)));
  picture = (what, format, state) =>
    this.with((key) => api.picture(key, what, format, this.asked(state)));
  asked = (state) => ({ file: toFile(state, this), scan: new URLSearchParams(state.scan) });
  readHints = (text) => this.with((key) => api.readHints(key, text));
  close = () => {
    this.closed = true; // a request that is under way may find it gone
    return api.closePhoto(this.key);
  };
}

/** Pixels of a picture that the browser shows. */
export class Pixels {
  static async of(blob) {
    const bitmap = await createImageBitmap(blob);
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    return Object.assign(new Pixels(), { context, width: bitmap.width, height: bitmap.height });
  }

  /** [r, g, b] at a place given as shares of width and height. */
  at(x, y) {
    const clamp = (v, most) => Math.min(most - 1, Math.max(0, Math.floor(v * most)));
    return [...this.context.getImageData(clamp(x, this.width), clamp(y, this.height), 1, 1).data]
      .slice(0, 3);
  }
}
