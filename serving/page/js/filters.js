// What narrows a search or a question: videos, camera, tags, folder, kinds of text, recorded time.
// One set of conditions for both, so that a search can go on as a question.

import { call, withQuery } from "./api.js";
import { button, field, h, icon, select } from "./dom.js";
import { KINDS, moment } from "./text.js";

const NONE = { videos: [], camera: "", tags: [], kinds: [], folder: "", from: "", to: "" };

class Filters extends EventTarget {
  values = { ...NONE };

  /** Change some conditions. */
  set(changes) {
    this.values = { ...this.values, ...changes };
    this.dispatchEvent(new Event("change"));
  }

  clear() { this.set(NONE); }

  get count() {
    const { videos, camera, tags, kinds, folder, from, to } = this.values;
    return videos.length + tags.length + kinds.length + [camera, folder, from, to].filter(Boolean).length;
  }

  /** Return them as the API takes them. */
  toJson() {
    const { videos, camera, tags, kinds, folder, from, to } = this.values;
    return {
      ...(videos.length > 0 && { video_ids: videos.map((video) => video.id) }),
      ...(camera && { camera }),
      ...(tags.length > 0 && { tags }),
      ...(kinds.length > 0 && { kinds }),
      ...(folder && { folder }),
      ...(from && { recorded_from: new Date(from).toISOString() }),
      ...(to && { recorded_to: new Date(to).toISOString() }),
    };
  }

  /** Return them for an address, with `more`. */
  toParams(more) {
    const params = new URLSearchParams(more);
    const { videos, tags, kinds, ...rest } = this.values;
    for (const video of videos) params.append("video", video.id);
    for (const tag of tags) params.append("tag", tag);
    for (const kind of kinds) params.append("kind", kind);
    for (const [name, value] of Object.entries(rest)) if (value) params.set(name, value);
    return params;
  }

  /** Take them from an address. */
  fromParams(params) {
    const known = new Map(this.values.videos.map((video) => [video.id, video]));
    const videos = params.getAll("video").map((id) => known.get(id) ?? { id, name: "" });
    const one = (name) => params.get(name) ?? "";
    const time = (name) => (Number.isNaN(new Date(one(name)).getTime()) ? "" : one(name));
    this.set({
      videos, tags: params.getAll("tag"), camera: one("camera"), folder: one("folder"),
      kinds: Object.keys(KINDS).filter((kind) => params.getAll("kind").includes(kind)), from: time("from"), to: time("to"),
    });
    for (const video of videos.filter((video) => !video.name)) this.#name(video.id);
  }

  async #name(id) {
    const { name } = await call(`/v1/videos/${encodeURIComponent(id)}`).catch(() => ({ name: id }));
    const videos = this.values.videos.map((video) => (video.id === id ? { id, name } : video));
    this.set({ videos });
  }
}

export const filters = new Filters();

let facets = null;

/** Return cameras, tags and folders; asked for once, and again after `forgetFacets`. */
export function getFacets() {
  facets ??= call("/v1/facets").catch((error) => { facets = null; throw error; });
  return facets;
}

export function forgetFacets() { facets = null; }

/** Return the form of the conditions. */
export function filterPanel(signal) {
  const body = h("div", { class: "fields" });
  const summary = h("summary", {}, "Filters");
  const panel = h("details", { class: "filters" }, summary, body);
  const fill = async () => {
    const found = await getFacets().catch(() => ({ cameras: [], tags: [], folders: [] }));
    body.replaceChildren(...controls(found));
  };
  const count = () => {
    summary.textContent = filters.count ? `Filters (${filters.count})` : "Filters";
  };
  panel.addEventListener("toggle", () => { if (panel.open) fill(); });
  filters.addEventListener("change", () => {
    count();
    if (panel.open && !panel.contains(document.activeElement)) fill();
  }, { signal });
  count();
  return panel;
}

function controls({ cameras, tags, folders }) {
  const { camera, folder, from, to } = filters.values;
  const any = (values, own) => [["", "Any"], ...new Set(own ? [own, ...values] : values)];
  const time = (name, value) => h("input", {
    type: "datetime-local", value, onchange: (event) => filters.set({ [name]: event.target.value }),
  });
  return [
    videoPicker(),
    field("Camera", select(any(cameras, camera), camera, (value) => filters.set({ camera: value }))),
    field("Folder", select(any(folders, folder), folder, (value) => filters.set({ folder: value }))),
    field("Recorded after", time("from", from)),
    field("Recorded before", time("to", to)),
    choices("Text, any of them", "kinds", Object.entries(KINDS)),
    tags.length > 0 && choices("Tags, all of them", "tags", tags.map((tag) => [tag, tag])),
  ].filter(Boolean);
}

/** Return a group of checkboxes for the list of conditions `name`. options: of value and text. */
function choices(legend, name, options) {
  const boxes = options.map(([value, text]) => {
    const onchange = (event) => {
      const others = filters.values[name].filter((own) => own !== value);
      filters.set({ [name]: event.target.checked ? [...others, value] : others });
    };
    const checked = filters.values[name].includes(value);
    return h("label", { class: "choice" }, h("input", { type: "checkbox", checked, onchange }), text);
  });
  return h("fieldset", { class: "full" }, h("legend", {}, legend), h("div", { class: "chips" }, boxes));
}

/** Return the conditions as buttons that take them away. */
export function filterChips(signal) {
  const list = h("div", { class: "chips", role: "group", "aria-label": "Active filters" });
  const fill = () => {
    const { videos, camera, tags, kinds, folder, from, to } = filters.values;
    const chip = (text, changes) => h("button", {
      type: "button", class: "chip", "aria-label": `Remove filter: ${text}`, onclick: () => filters.set(changes),
    }, text, icon("close"));
    const without = (list, item) => list.filter((own) => own !== item);
    list.replaceChildren(...[
      ...videos.map((video) => chip(video.name || "One video", { videos: without(videos, video) })),
      camera && chip(`Camera ${camera}`, { camera: "" }),
      ...tags.map((tag) => chip(`Tag ${tag}`, { tags: without(tags, tag) })),
      ...kinds.map((kind) => chip(`Text: ${KINDS[kind]}`, { kinds: without(kinds, kind) })),
      folder && chip(`In ${folder}`, { folder: "" }),
      from && chip(`After ${moment(from)}`, { from: "" }),
      to && chip(`Before ${moment(to)}`, { to: "" }),
      filters.count > 1 && button("Clear all", () => filters.clear(), { kind: "quiet small" }),
    ].filter(Boolean));
    list.hidden = filters.count === 0;
  };
  filters.addEventListener("change", fill, { signal });
  fill();
  return list;
}

const PAUSE_MS = 200;
let pickers = 0;

/** Return a labelled combobox that finds videos by name: the ARIA pattern with a list of options. */
function videoPicker() {
  const id = `videos-${++pickers}`;
  const list = h("ul", { id, role: "listbox", "aria-label": "Videos", hidden: true });
  const input = h("input", {
    type: "text", role: "combobox", autocomplete: "off", placeholder: "Part of its name", id: `${id}-input`,
    "aria-expanded": "false", "aria-controls": id, "aria-autocomplete": "list",
  });
  let [found, active, timer, looks] = [[], -1, null, 0];
  const show = (open) => {
    list.hidden = !open;
    input.setAttribute("aria-expanded", String(open));
    if (!open) input.removeAttribute("aria-activedescendant");
  };
  const take = (video) => {
    const others = filters.values.videos.filter((own) => own.id !== video.video_id);
    filters.set({ videos: [...others, { id: video.video_id, name: video.name }] });
    input.value = "";
    show(false);
  };
  const mark = (index) => {
    active = index;
    [...list.children].forEach((item, i) => item.setAttribute("aria-selected", String(i === index)));
    list.children[index]?.scrollIntoView({ block: "nearest" });
    if (found[index]) input.setAttribute("aria-activedescendant", `${id}-${index}`);
  };
  const look = async () => {
    const path = withQuery("/v1/videos", { name: input.value.trim(), status: "indexed", limit: 8 });
    const own = ++looks;
    const page = await call(path).catch(() => ({ data: [] }));
    if (own !== looks) return;  // a later one is under way
    const chosen = found[active]?.video_id;
    found = page.data;
    list.replaceChildren(...found.map((video, i) => h("li", {
      role: "option", id: `${id}-${i}`, "aria-selected": "false",
      onmousedown: (event) => { event.preventDefault(); take(video); },
    }, video.name, h("small", {}, video.uri))));
    if (!found.length)
      list.append(h("li", { role: "option", "aria-disabled": "true", "aria-selected": "false" }, "No video has this in its name"));
    active = -1;
    show(document.activeElement === input);
    const still = found.findIndex((video) => video.video_id === chosen);
    if (still >= 0) mark(still);  // who presses Enter now means what was marked
  };
  input.addEventListener("focus", look);
  input.addEventListener("blur", () => show(false));
  input.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(look, PAUSE_MS); });
  input.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && found.length) { event.preventDefault(); show(true); mark((active + step + found.length) % found.length); }
    if (event.key === "Enter") { event.preventDefault(); if (found[active]) take(found[active]); }
    if (event.key === "Escape" && !list.hidden) { event.stopPropagation(); show(false); }
  });
  const { children: [label] } = field("Video", input);
  return h("div", { class: "field" }, label, h("div", { class: "combo" }, input, list));
}
