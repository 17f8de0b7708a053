// Search for moments: by words, by a picture, or by an event. The address holds the search.

import { call } from "./api.js";
import { announce, button, h, icon, state, waiting } from "./dom.js";
import { eventCard, playInDialog } from "./events.js";
import { filterChips, filterPanel, filters } from "./filters.js";
import { missing, may, problem } from "./session.js";
import { duration } from "./text.js";

export const NAME = "search";
const PAGE = 12;
const MOST_PIXELS = 1024;

/** Show the search that the address names. */
export function show({ params, signal }) {
  const results = h("section", { class: "view", "aria-label": "Results" });
  const input = h("input", { type: "search", class: "query", "aria-label": "What to look for", placeholder: "Describe a moment, or what was said" });
  const file = h("input", { type: "file", accept: "image/png,image/jpeg,image/webp", class: "unseen", tabindex: -1, "aria-label": "Example picture" });
  const example = button("", () => file.click(), { kind: "quiet round", icon: "image", "aria-label": "Search by a picture" });
  const form = h("form", { class: "composer", role: "search", onsubmit: submit }, filterChips(signal),
    h("div", { class: "line" }, input, file, example,
      h("button", { type: "submit", class: "button primary round", "aria-label": "Search" }, icon("search"))),
    h("div", { class: "under" }, filterPanel(signal)));
  const element = h("div", { class: "view" },
    h("div", { class: "view-head" }, h("h1", {}, "Find a moment"), h("p", {}, "Search by words, by a picture, or by a clip that you like.")),
    missing("read"), form, results);
  let query = null;
  let own = false;  // whether the address changes because of the form

  file.addEventListener("change", async () => {
    if (!file.files.length) return;
    try {
      run({ image: await smaller(file.files[0]) }, "the picture");
    } catch {
      results.replaceChildren(state({ picture: "image", title: "This picture cannot be read", text: "Choose a JPEG, PNG or WebP file.", bad: true }));
    }
    file.value = "";
  });
  filters.addEventListener("change", () => {
    if (own || !query) return;
    if (query.image) run(query, "the picture"); else go(query.event_id ? { like: query.event_id } : { q: query.text });
  }, { signal });

  function submit(event) {
    event.preventDefault();
    if (input.value.trim()) go({ q: input.value.trim() });
  }

  function go(what) {
    const target = `#/search?${filters.toParams(what)}`;
    if (target === location.hash) update(new URLSearchParams(target.split("?")[1]));
    else location.hash = target;
  }

  function update(now) {
    own = true;
    if (now.size) filters.fromParams(now);
    own = false;
    const [text, like] = [now.get("q") ?? "", now.get("like")];
    input.value = text;
    if (like) run({ event_id: like }, "this clip");
    else if (text) run({ text }, `“${text}”`);
    else { query = null; results.replaceChildren(); }
  }

  async function run(what, name) {
    query = what;
    if (!may("read")) return;
    results.replaceChildren(waiting("Searching…"));
    const filter = filters.toJson();
    const ask = (offset) => call("/v1/search", { method: "POST", signal, json: { ...what, filter, limit: PAGE, offset } });
    try {
      const page = await ask(0);
      if (query === what) showPage(page, name, ask);
    } catch (error) {
      if (error.name !== "AbortError" && query === what) results.replaceChildren(problem(error, () => run(what, name)));
    }
  }

  function showPage(page, name, ask) {
    if (!page.data.length) {
      results.replaceChildren(state({
        picture: "search", title: `Nothing found for ${name}`,
        text: filters.count ? "Try fewer filters, or other words." : "Try other words, or look through the videos.",
        actions: [filters.count > 0 && button("Clear the filters", () => filters.clear()), h("a", { class: "button", href: "#/videos" }, "See all videos")].filter(Boolean),
      }));
      announce("Nothing found");
      return;
    }
    const list = h("ul", { class: "clips wide" }, page.data.map(card));
    const more = h("div", { class: "pages" });
    const took = page.timings.search === undefined ? "" : ` · ${duration(page.timings.search)}`;
    results.replaceChildren(h("h2", {}, `Best moments for ${name}`, h("span", { class: "muted small" }, took)), list, more);
    announce(`${page.data.length} moments found`);
    offerMore(page, list, more, ask);
  }

  function offerMore(page, list, more, ask) {
    if (!page.has_more) { more.replaceChildren(h("p", { class: "muted" }, "These are all.")); return; }
    more.replaceChildren(button("Show more", async () => {
      more.replaceChildren(waiting("Loading more…"));
      try {
        const next = await ask(page.next_offset);
        const cards = next.data.map(card);
        list.append(...cards);
        cards[0]?.querySelector("button").focus();
        offerMore(next, list, more, ask);
      } catch (error) {
        if (error.name !== "AbortError") more.replaceChildren(problem(error, () => offerMore(page, list, more, ask)));
      }
    }));
  }

  update(params);
  return { title: "Search", element, update, focus: params.size ? undefined : input };
}

const card = (event) => eventCard(event, { onplay: playInDialog });

/** Return a picture as base64, no larger than it need be. */
async function smaller(file) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, MOST_PIXELS / Math.max(bitmap.width, bitmap.height));
  const canvas = h("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/jpeg", 0.9).split(",")[1];
}
