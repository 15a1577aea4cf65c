// Opening photos and hint files, and what a reload brings back.

import { useEffect } from "../vendor/htm-preact-standalone.js";
import * as api from "./api.js";
import { History, ofFile } from "./history.js";
import { keepPhoto, keepStrip, keptHints, keptStrip, keyOfFile, newKey } from "./keep.js";
import { Photo } from "./photo.js";
import { isHintFile, isPicture } from "./save.js";
import { counted } from "./words.js";

/** { open, openFiles, loadHints, beside }; needs `refresh` and `change` of the page. */
export function opening(page) {
  const { live, tell, fail } = page;

  /** source: a row of the strip. True if it is what the page shows now. */
  const open = async (source) => {
    page.setOpening(source.name);
    page.setPicking(false);
    page.setSelected(null);
    page.setPlaces(null);
    page.setProposed(null);
    const number = (live.opening = (live.opening || 0) + 1);
    live.wanted = source;
    try {
      const [next, past] = await Promise.all([
        Photo.open(source), source.past || keptHints(source.key),
      ]);
      if (number !== live.opening) { // another photo was asked for meanwhile
        next.close();
        return false;
      }
      live.photo?.close();
      live.history = past ? new History(past.states, past.index) : new History();
      source.past = live.history;
      live.pixels = { grey: null, color: null };
      page.setGreyUrl("");
      page.setColorUrl("");
      live.photo = next;
      page.setPhoto(next);
      next.notes.forEach((note) => tell(note));
      document.title = `${next.name} – Studio`;
      await page.refresh(next);
      return true;
    } catch (error) {
      if (number === live.opening) {
        if (error.cutShort) cutShort(source);
        else fail(error);
      }
      if (source.blob && error.status === 422) {
        page.setFiles((all) => all.filter((f) => f !== source));
      }
      return false;
    } finally {
      if (number === live.opening) page.setOpening("");
    }
  };

  const cutShort = (source) => tell(`${source.name} is cut short: a part of it is missing.`, "error", {
    label: "Open what there is",
    act: () => {
      source.tolerant = true;
      keepPhoto(source);
      page.setFiles((all) => (all.includes(source) ? all : [...all, source]));
      open(source);
    },
  });

  /** Pictures and a hint file, in any order; what is neither is named. */
  const openFiles = async (list) => {
    const [hintFile, ...others] = list.filter(isHintFile);
    const found = list.filter(isPicture);
    const left = list.length - found.length - list.filter(isHintFile).length;
    if (others.length) {
      tell(`${hintFile.name} is read; ${counted(others.length, "other hint file is", "other hint files are")} left out.`);
    }
    if (left > 0) {
      tell(`${counted(left, "file is no picture", "files are no pictures")} by name; left out.`);
    }
    if (found.length) {
      const sources = found.map((blob) => (
        { key: newKey(), name: blob.name || "pasted.png", blob }));
      sources.forEach(keepPhoto);
      page.setFiles((all) => [...all, ...sources]);
      if (!(await open(sources[0]))) return; // its hints are of no use to another photo
    }
    if (hintFile) await loadHints(hintFile);
  };

  const loadHints = async (file) => {
    const { photo } = live;
    if (!photo) return tell("Open the photo first, then its hint file.", "error");
    try {
      page.change(ofFile(await photo.readHints(await file.text())));
      tell(`${counted(live.history.hints.length, "hint", "hints")} of ${file.name}.`);
    } catch (error) {
      fail(error);
    }
  };

  /** The photo `by` places further in the strip. */
  const beside = (by) => {
    const at = page.files.findIndex((one) => one.key === live.wanted?.key);
    const next = page.files[at + by];
    if (next) open(next);
  };
  return { open, openFiles, loadHints, beside };
}

/** Ask the server what it is, bring the strip back, and keep it from then on. */
export function useStrip(page) {
  const { live, photo, files } = page;
  useEffect(() => {
    (async () => {
      let found = { files: [] };
      try {
        found = await api.about();
        page.setAbout(found);
      } catch (error) {
        page.fail(error);
      }
      const offered = found.files.map((name, number) => {
        const [film, frame] = found.frames[number] || [];
        return { key: keyOfFile(number, name), name, number, film, frame };
      });
      const { photos, current } = await keptStrip();
      const all = [...photos, ...offered];
      // A person may have opened something already.
      page.setFiles((now) => (
        [...all.filter((one) => !now.some((n) => n.key === one.key)), ...now]));
      const last = all.find((one) => one.key === current) || all[0];
      if (last && !live.opening) await page.open(last);
    })();
  }, []);
  const opened = photo?.source.key;
  useEffect(() => {
    if (opened) keepStrip(files.map((one) => one.key), opened);
  }, [files, opened]);
}
