// What a person asks the network for: places, ways to begin, pictures to keep.

import { filmFile, ofFile, toFile } from "./history.js";
import { keptHints } from "./keep.js";
import { download } from "./save.js";
import { counted } from "./words.js";

/** { whereNext, propose, take, save, saveHints, saveFilmHints }; needs `refresh` and `change` of the page. */
export function asking(page) {
  const { live, photo, fail, tell } = page;

  const whereNext = async () => {
    if (page.places) return page.setPlaces(null);
    page.setPlaces("asked");
    try {
      const now = live.history.state;
      const found = await photo.places(5, now);
      if (live.photo !== photo || live.history.state !== now) return;
      page.setPlaces(found.places);
      page.setSaid(counted(found.places.length, "place", "places"));
    } catch (error) {
      page.setPlaces(null);
      fail(error);
    }
  };
  const propose = async () => {
    if (page.proposed) return page.setProposed(null);
    page.setProposed("asked");
    const now = live.history.state;
    try {
      const found = await photo.proposals(4, now);
      const made = [];
      for (const file of found.proposals) {
        const begun = { ...now, ...ofFile(file), look: now.look };
        const picture = await photo.preview(240, begun);
        made.push({ state: begun, url: URL.createObjectURL(picture) });
      }
      if (live.photo === photo) page.setProposed(made);
      page.refresh(); // the session has the present hints again
    } catch (error) {
      page.setProposed(null);
      fail(error);
    }
  };
  const take = (chosen) => {
    page.setProposed(null);
    page.setPicking(false);
    page.settle();
    page.change({ hints: chosen.state.hints });
  };
  /** format: an ending without its dot, or "" for the photo's own; what: "result" or "layer". */
  const save = async (format, what = "result") => {
    page.setSaving(true);
    try {
      const made = await photo.picture(what, format, live.history.state);
      download(made.blob, made.name);
      made.notes.forEach((note) => tell(note));
    } catch (error) {
      fail(error);
    } finally {
      page.setSaving(false);
    }
  };
  const saveHints = () => {
    const text = toFile(live.history.state, photo);
    const name = `${photo.name.replace(/\.[^.]*$/, "")}.hints.json`;
    download(new Blob([text], { type: "application/json" }), name);
  };
  /** All hints of the film that the photo is a frame of, as one file. */
  const saveFilmHints = async () => {
    const { film } = photo.source;
    const rows = [];
    for (const file of page.files.filter((one) => one.film === film)) {
      const past = file.past || (await keptHints(file.key));
      const hints = past ? past.states[past.index].hints : [];
      rows.push(...hints.map(({ id, ...row }) => ({ frame: file.frame, ...row })));
    }
    const { look } = live.history;
    download(new Blob([filmFile(rows, look, photo)], { type: "application/json" }),
      `${film.replace(/\.[^.]*$/, "")}.hints.json`);
    tell(`${counted(rows.length, "hint", "hints")}. Colorize the film by: `
      + `python -m runtime ${film} --hints ${film.replace(/\.[^.]*$/, "")}.hints.json -o OUT.mp4`);
  };
  return { whereNext, propose, take, save, saveHints, saveFilmHints };
}
