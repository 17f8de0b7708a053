// One video: the player, its timeline of events, what was said, links to a moment.

import { call, withQuery } from "./api.js";
import { button, h, icon, ownPath, state, waiting } from "./dom.js";
import { copyLink, picture } from "./events.js";
import { askButton, deleteVideo } from "./videos.js";
import { missing, may, problem } from "./session.js";
import { KINDS, bytes, clock, moment, plural, range, spokenRange } from "./text.js";

export const NAME = "video";
const PAGE = 100;

/** Show a video at the moment that the address names. */
export function show({ id, params, signal }) {
  const heading = h("h1", {}, "Video");
  const body = h("div", { class: "view" }, waiting("Loading the video…"));
  const element = h("div", { class: "view" },
    h("a", { class: "button quiet back", href: "#/videos" }, icon("back"), "All videos"),
    heading, missing("read"), body);
  let seek = () => {};

  async function load() {
    if (!may("read")) { body.replaceChildren(); return; }
    try {
      const video = await call(`/v1/videos/${encodeURIComponent(id)}`, { signal });
      heading.textContent = video.name;
      document.title = `${video.name} – MARC`;
      seek = fill(body, video, signal);
      seek(params);
    } catch (error) {
      if (error.name === "AbortError") return;
      heading.textContent = "Video";
      body.replaceChildren(problem(error, load));
    }
  }

  load();
  return { title: "Video", element, update: (now) => seek(now) };
}

function fill(body, video, signal) {
  if (video.status !== "indexed") {
    body.replaceChildren(state({
      title: video.status === "failed" ? "It could not be indexed" : "It was set aside",
      text: video.error?.message, picture: "alert", bad: true,
    }), about(video), actions(video));
    return () => {};
  }
  const player = h("video", { controls: true, playsinline: true, preload: "metadata", "aria-label": video.name, src: ownPath(video.media_url) });
  const trouble = h("p", { class: "notice bad", role: "alert", hidden: true });
  const words = h("section", { class: "words panel", "aria-label": "This moment", hidden: true });
  const timeline = makeTimeline(video, player, signal, (event, play) => select(event, play));
  player.addEventListener("error", () => {
    trouble.replaceChildren("This video does not play: the server may still be preparing it, or its file is gone. ",
      button("Try again", () => { trouble.hidden = true; player.load(); }, { kind: "small" }));
    trouble.hidden = false;
  });
  signal.addEventListener("abort", () => { player.pause(); player.removeAttribute("src"); player.load(); });

  function goTo(seconds, play) {
    const go = () => {
      player.currentTime = seconds;
      if (play) player.play().catch(() => {});
    };
    if (player.readyState >= 1) go(); else player.addEventListener("loadedmetadata", go, { once: true, signal });
  }

  function select(event, play = true) {
    goTo(event.start_s, play);
    history.replaceState(null, "", `#/video/${encodeURIComponent(video.video_id)}?t=${event.start_s}`);
    showWords(words, event, signal);
    player.scrollIntoView({ block: "nearest", behavior: "smooth" });  // on a phone it stands above
  }

  body.replaceChildren(h("div", { class: "watch" },
    h("div", { class: "watch-main" },
      h("div", { class: "stage" }, player, trouble), timeline.strip, actions(video, player), words, about(video)),
    timeline.list));
  return (params) => {
    const seconds = Number(params.get("t"));
    if (params.get("t") !== null && Number.isFinite(seconds) && seconds >= 0) goTo(seconds, false);
  };
}

function actions(video, player) {
  const copy = player && button("Copy link to this moment", async () => {
    const at = Math.floor(10 * player.currentTime) / 10;
    if (await copyLink(`#/video/${encodeURIComponent(video.video_id)}?t=${at}`)) {
      copy.lastChild.textContent = "Link copied";
      setTimeout(() => { copy.lastChild.textContent = "Copy link to this moment"; }, 2000);
    }
  }, { kind: "small", icon: "link" });
  return h("div", { class: "row" },
    video.status === "indexed" && askButton(video, "primary small"), copy,
    may("ingest") && button("Delete", async () => {
      if (await deleteVideo(video)) location.hash = "#/videos";
    }, { kind: "quiet small", icon: "trash", "aria-label": `Delete ${video.name}` }));
}

function about(video) {
  const size = video.width && `${video.width} × ${video.height}`;
  const rows = [
    ["Length", video.duration_s && clock(video.duration_s)], ["Events", plural(video.num_events, "event")],
    ["Camera", video.camera], ["Recorded", video.recorded_at && moment(video.recorded_at)],
    ["Picture", size && [size, video.fps && `${Math.round(10 * video.fps) / 10} frames a second`, video.codec].filter(Boolean).join(", ")],
    ["Size", bytes(video.size_bytes)], ["Indexed", moment(video.indexed_at)],
    ["Tags", video.tags.join(", ")], ["Address", video.uri], ["Notes", video.warnings.join("; ")],
  ];
  return h("dl", { class: "about panel" }, rows.filter(([, value]) => value).map(([name, value]) =>
    h("div", { class: ["Address", "Notes"].includes(name) ? "full" : "" }, h("dt", {}, name), h("dd", {}, value))));
}

/** Return the timeline: a strip to click at, and the list of events, which follows the player. */
function makeTimeline(video, player, signal, onselect) {
  const items = [];  // {event, part, row}
  const length = Math.max(video.duration_s ?? 0, 0.001);
  const head = h("span", { class: "head" });
  const track = h("div", {
    class: "strip", "aria-hidden": "true",  // for a mouse; the list is for everybody
    onclick: (click) => {
      const box = track.getBoundingClientRect();
      const at = length * (click.clientX - box.left) / box.width;
      const hit = items.find(({ event }) => event.start_s <= at && at < event.end_s);
      if (hit) onselect(hit.event); else player.currentTime = at;
    },
  }, head);
  const rows = h("ol", { class: "events-list", tabindex: 0, "aria-label": "Events in order of time" });
  const find = h("input", { type: "search", "aria-label": "Find in what was said", placeholder: "Find in what was said" });
  const note = h("div", {}, waiting("Loading events…"));
  const list = h("section", { class: "events panel", "aria-label": "Timeline" }, h("h2", {}, "Timeline"), find, rows, note);

  function add(event) {
    const part = h("span", { class: event.text ? "part said-in" : "part", title: range(event.start_s, event.end_s) });
    part.style.setProperty("--from", event.start_s / length);
    part.style.setProperty("--length", (event.end_s - event.start_s) / length);
    const row = h("button", {
      type: "button", class: "moment", onclick: () => onselect(event),
      "aria-label": `${spokenRange(event.start_s, event.end_s)}${event.text ? `: ${event.text}` : ""}`,
    }, h("span", { class: "picture" }, picture(event.thumbnail_url)),
    h("span", {}, h("span", { class: "when" }, range(event.start_s, event.end_s)), event.text && h("span", { class: "said" }, event.text)));
    items.push({ event, part, row });
    track.append(part);
    rows.append(h("li", {}, row));
  }

  function follow() {
    const at = player.currentTime;
    head.style.setProperty("--at", at / length);
    for (const { event, part, row } of items) {
      const now = event.start_s - 0.001 <= at && at < event.end_s;
      if (now === part.classList.contains("now")) continue;
      part.classList.toggle("now", now);
      if (!now) { row.removeAttribute("aria-current"); continue; }
      row.setAttribute("aria-current", "true");
      if (!rows.contains(document.activeElement))  // scrolls the list, never the page
        rows.scrollTop = row.offsetTop - rows.offsetTop - rows.clientHeight / 3;
    }
  }

  function narrow() {
    const words = find.value.trim().toLowerCase();
    for (const { event, row } of items) row.parentElement.hidden = Boolean(words) && !(event.text ?? "").toLowerCase().includes(words);
    note.replaceChildren(...(words && items.every(({ row }) => row.parentElement.hidden) ? [h("p", { class: "muted", role: "status" }, "Nobody said or wrote this.")] : []));
  }

  async function load(offset = 0) {
    const path = `/v1/videos/${encodeURIComponent(video.video_id)}/events`;
    try {
      const page = await call(withQuery(path, { limit: PAGE, offset: offset || "" }), { signal });
      page.data.forEach(add);
      follow();
      if (page.has_more) { load(page.next_offset); return; }
      find.hidden = !items.some(({ event }) => event.text);
      note.replaceChildren(...(items.length ? [] : [h("p", { class: "muted" }, "This video has no events.")]));
    } catch (error) {
      if (error.name !== "AbortError") note.replaceChildren(problem(error, () => load(offset)));
    }
  }

  find.addEventListener("input", narrow);
  for (const name of ["timeupdate", "seeked", "loadedmetadata"]) player.addEventListener(name, follow);
  load();
  const scale = h("div", { class: "scale", "aria-hidden": "true" }, h("span", {}, "0:00"), h("span", {}, clock(length)));
  return { strip: h("div", {}, track, scale), list };
}

/** Show what was said and written in an event. */
async function showWords(place, event, signal) {
  place.hidden = false;
  place.replaceChildren(h("div", { class: "row spread" }, h("h2", {}, `From ${range(event.start_s, event.end_s)}`),
    h("a", { class: "button quiet small", href: `#/search?like=${encodeURIComponent(event.event_id)}` }, "More like this")));
  const detail = await call(`/v1/events/${encodeURIComponent(event.event_id)}`, { signal }).catch(() => ({ texts: [] }));
  place.append(detail.texts.length === 0
    ? h("p", { class: "muted" }, "Nothing is said or written here.")
    : h("ul", { class: "words" }, detail.texts.map((text) => h("li", {}, h("span", { class: "when" }, clock(text.start_s)),
      h("span", {}, text.text, " ", h("span", { class: "meta" }, [KINDS[text.kind] ?? text.kind, text.language].filter(Boolean).join(", ")))))));
}
