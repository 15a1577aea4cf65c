// The pictures that the page shows, asked for one at a time, the newest hints last.

import { Newest } from "./newest.js";
import { Pixels } from "./photo.js";

const SIDE = 1024, CLOSE_SIDE = 2560; // of previews, and of those that are looked at closely
const QUIET = 400; // milliseconds without a change until a close picture is made

/** { refresh, looked }: ask for what is shown; tell how large the photo is on the screen. */
export function pictures(page) {
  const { live } = page;
  live.newest ??= new Newest((asked) => bring(page, asked), page.setBusy, page.fail);

  const ask = (photo, side) =>
    live.newest.ask({ photo, state: live.history.state, side });
  const sharpen = () => {
    clearTimeout(live.timers.sharpen);
    const { photo } = live;
    if (!photo || !live.close || Math.max(photo.width, photo.height) <= SIDE) return;
    live.timers.sharpen = setTimeout(() => live.photo === photo && ask(photo, CLOSE_SIDE), QUIET);
  };
  /** An edit is answered at once in the usual size, and sharply when it has become quiet. */
  const refresh = (photo = live.photo) => {
    if (!photo) return undefined;
    sharpen();
    return ask(photo, SIDE);
  };
  /** pixels: of the screen's own, along the photo's longer side. */
  const looked = (pixels) => {
    page.redraw(); // the popover goes along
    const close = pixels > 1.25 * SIDE;
    if (close === live.close) return;
    live.close = close;
    sharpen();
  };
  return { refresh, looked };
}

/** Fetch one picture and show it, if its photo is still open. */
async function bring(page, { photo, state, side }) {
  const { live } = page;
  const gone = () => live.photo !== photo;
  if (gone()) return;
  if (state.scan !== photo.shownScan || side > photo.shownSide) {
    const grey = await photo.grey(side, state);
    if (gone()) return;
    Object.assign(photo, { shownScan: state.scan, shownSide: side });
    await show(live, page.setGreyUrl, grey, "grey", gone);
  }
  const color = await photo.preview(side, state);
  if (!gone()) await show(live, page.setColorUrl, color, "color", gone);
}

async function show(live, set, blob, name, gone) {
  const url = URL.createObjectURL(blob);
  const pixels = await Pixels.of(blob);
  const image = new Image();
  image.src = url;
  await image.decode();
  if (gone()) return URL.revokeObjectURL(url);
  live.pixels[name] = pixels;
  set((old) => {
    if (old) setTimeout(() => URL.revokeObjectURL(old), 500);
    return url;
  });
}
