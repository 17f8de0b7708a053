// All videos: filters, pages, upload and its progress, delete.

import { call, withQuery } from "./api.js";
import { announce, button, confirmed, field, h, openDialog, select, state, waiting } from "./dom.js";
import { picture } from "./events.js";
import { filters, forgetFacets, getFacets } from "./filters.js";
import { missing, may, problem } from "./session.js";
import { clock, moment, plural } from "./text.js";
import { uploadPanel } from "./uploads.js";

export const NAME = "videos";
const PAGE = 24;
const PAUSE_MS = 250;
const NAMES = ["name", "status", "camera", "tag", "folder"];

/** Show the page of videos that the address names. */
export function show({ params, signal }) {
  const tools = h("div", { class: "tools", role: "group", "aria-label": "Filter the videos" });
  const results = h("section", { class: "view", "aria-label": "Videos" });
  const heading = h("h1", {}, "Videos");
  const count = h("p");
  const adding = may("ingest") ? uploadPanel(signal, () => { forgetFacets(); list(); }) : null;
  const element = h("div", { class: "view" },
    h("div", { class: "view-head" }, h("div", {}, heading, count), adding?.opener),
    adding?.element, missing("read"), !adding && missing("ingest"), tools, results);
  let [current, run] = [params, 0];

  const go = (changes) => {
    const next = { ...Object.fromEntries(current), offset: "", ...changes };
    location.hash = withQuery("#/videos", next);
  };

  async function fillTools() {
    const facets = await getFacets().catch(() => ({ cameras: [], tags: [], folders: [] }));
    let timer = null;
    const name = h("input", { type: "search", value: current.get("name") ?? "", placeholder: "Part of the name" });
    name.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(() => go({ name: name.value.trim() }), PAUSE_MS); });
    const choose = (label, key, values) => field(label, select([["", "Any"], ...values], current.get(key) ?? "", (value) => go({ [key]: value })));
    const found = [
      field("Name", name),
      choose("State", "status", [["indexed", "Indexed"], ["failed", "Failed"], ["quarantined", "Set aside"]]),
      facets.cameras.length > 0 && choose("Camera", "camera", facets.cameras),
      facets.tags.length > 0 && choose("Tag", "tag", facets.tags),
      facets.folders.length > 1 && choose("Folder", "folder", facets.folders),
    ];
    tools.replaceChildren(...found.filter(Boolean));
  }

  async function list() {
    if (!may("read")) return;
    const [mine, given] = [++run, current];
    const offset = Number(given.get("offset")) || 0;
    if (!results.childElementCount) results.replaceChildren(waiting("Loading videos…"));
    try {
      const query = Object.fromEntries(NAMES.map((name) => [name, given.get(name)]));
      const page = await call(withQuery("/v1/videos", { ...query, limit: PAGE, offset: offset || "" }), { signal });
      if (mine === run) showPage(page, offset);
    } catch (error) {
      if (error.name !== "AbortError" && mine === run) results.replaceChildren(problem(error, list));
    }
  }

  function showPage(page, offset) {
    count.textContent = plural(page.total, "video");
    if (!page.data.length) {
      const narrowed = NAMES.some((name) => current.get(name));
      results.replaceChildren(narrowed
        ? state({ picture: "search", title: "No video fits these filters", actions: [button("Clear the filters", () => { location.hash = "#/videos"; fillTools(); })] })
        : state({ title: "No videos yet", text: adding ? "Add the first one: it can be searched and asked about as soon as it is indexed." : "Whoever runs this server can add some." }));
      return;
    }
    const last = offset + page.data.length;
    const pages = page.total > page.data.length && h("nav", { class: "pages", "aria-label": "Pages" },
      button("Previous", () => turn(Math.max(0, offset - PAGE)), { disabled: offset === 0 }),
      h("span", { class: "muted" }, `${offset + 1} – ${last} of ${page.total.toLocaleString()}`),
      button("Next", () => turn(page.next_offset), { disabled: !page.has_more }));
    results.replaceChildren(h("ul", { class: "clips wide" }, page.data.map((video) => videoCard(video, list))), ...(pages ? [pages] : []));
  }

  function turn(offset) {
    go({ offset });
    heading.focus();
    announce(`Videos from number ${offset + 1}`);
  }

  function update(now) {
    current = now;
    list();
  }

  fillTools();
  list();
  return { title: "Videos", element, update };
}

function videoCard(video, changed) {
  const link = `#/video/${encodeURIComponent(video.video_id)}`;
  const isGood = video.status === "indexed";
  const facts = [isGood && plural(video.num_events, "event"), video.camera, video.recorded_at && moment(video.recorded_at)];
  return h("li", { class: "card", "data-video": video.video_id },
    h("a", { class: "thumb", href: link, tabindex: -1, "aria-hidden": "true" }, picture(video.thumbnail_url),
      video.duration_s && h("span", { class: "time" }, clock(video.duration_s))),
    h("div", { class: "card-body" },
      h("a", { class: "name", href: link }, video.name),
      h("p", { class: "meta" }, facts.filter(Boolean).join(" · ")),
      !isGood && h("p", { class: "small" }, h("span", { class: "chip bad" }, video.status === "failed" ? "Failed" : "Set aside"), " ", video.error?.message),
      video.tags.length > 0 && h("div", { class: "chips" }, video.tags.map((tag) => h("span", { class: "chip" }, tag))),
      h("div", { class: "row" },
        isGood && askButton(video),
        may("ingest") && button("Delete", async () => { if (await deleteVideo(video)) changed(); },
          { kind: "quiet small", "aria-label": `Delete ${video.name}` }))));
}

/** Return a button that goes on to questions about one video. */
export function askButton(video, kind = "quiet small") {
  return button("Ask about it", () => {
    filters.set({ videos: [{ id: video.video_id, name: video.name }] });
    location.hash = "#/";
  }, { kind, "aria-label": `Ask about ${video.name}` });
}

/** Ask whether to delete a video, do so; return whether it is gone. */
export async function deleteVideo(video) {
  const file = video.uploaded
    ? "The uploaded file is deleted, too."
    : "The file itself is not touched: it was not uploaded here.";
  const text = `It goes from the list, from searches and from answers, with its ${plural(video.num_events, "event")}. ${file} This cannot be undone.`;
  if (!await confirmed(`Delete ${video.name}?`, text, "Delete")) return false;
  try {
    await call(`/v1/videos/${encodeURIComponent(video.video_id)}`, { method: "DELETE" });
  } catch (error) {
    openDialog(`${video.name} was not deleted`, h("p", {}, error.message));
    return false;
  }
  forgetFacets();
  filters.set({ videos: filters.values.videos.filter((own) => own.id !== video.video_id) });
  announce(`${video.name} is deleted`);
  return true;
}
