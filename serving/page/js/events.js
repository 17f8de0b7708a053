// Events as cards, and the player of one.

import { button, h, icon, openDialog, ownPath, announce } from "./dom.js";
import { clock, KINDS, moment, range, spokenRange } from "./text.js";

/** Return the address of a moment of a video. */
export const momentLink = (event) => `#/video/${encodeURIComponent(event.video_id)}?t=${event.start_s}`;

/** Return a picture, or a sign that there is none. */
export function picture(url, size = "") {
  const none = () => h("span", { class: "none" }, icon("film"));
  const path = ownPath(url);
  if (!path) return none();
  const image = h("img", { src: path, alt: "", loading: "lazy", class: size });
  image.addEventListener("error", () => image.replaceWith(none()), { once: true });
  return image;
}

/** Return what is known of an event beside its time: camera, tags, when it was recorded. */
export function eventMeta(event) {
  const parts = [event.camera, ...event.tags, event.recorded_from && moment(event.recorded_from)];
  return parts.filter(Boolean).join(" · ");
}

/** Return what is said in an event: the lines that a search has found, its words marked, or all. */
function said(event) {
  if (!event.matches?.length) return [event.text && h("p", { class: "said" }, `“${event.text}”`)];
  return event.matches.map((line) => {
    const letters = Array.from(line.text);  // positions count code points
    let here = 0;
    const parts = line.words.flatMap(([start, end]) => {
      const plain = letters.slice(here, start).join("");
      here = end;
      return [plain, h("mark", {}, letters.slice(start, end).join(""))];
    });
    return h("p", { class: "said" }, `${clock(line.start_s)} ${(KINDS[line.kind] ?? line.kind).toLowerCase()}: `, ...parts, letters.slice(here).join(""));
  });
}

/** Return a card that plays an event. number: of a citation. */
export function eventCard(event, { number, onplay }) {
  const name = number ? `Play clip ${number}` : "Play clip";
  const meta = eventMeta(event);
  const card = h("li", { class: "card event", "data-event": event.event_id },
    h("button", {
      type: "button", class: "thumb", "aria-label": `${name}: ${event.name}, ${spokenRange(event.start_s, event.end_s)}`,
      onclick: () => onplay(event, card),
    },
    picture(event.thumbnail_url), number && h("span", { class: "number" }, number),
    h("span", { class: "go" }, icon("play")), h("span", { class: "time" }, range(event.start_s, event.end_s))),
    h("div", { class: "card-body" },
      h("a", { class: "name", href: momentLink(event), "aria-label": `${event.name} at ${clock(event.start_s)}` }, event.name),
      ...said(event),
      meta && h("p", { class: "meta" }, meta),
      h("div", { class: "row" }, h("a", {
        class: "button quiet small", href: `#/search?like=${encodeURIComponent(event.event_id)}`,
        "aria-label": `More like ${event.name} at ${clock(event.start_s)}`,
      }, "More like this"))));
  return card;
}

/** Play an event in a video element: from its start, once to its end. */
export function playEvent(video, event) {
  const path = ownPath(event.clip_url);
  if (!path) return;
  const ends = new AbortController();
  video.stopWatching?.abort();
  video.stopWatching = ends;
  const { signal } = ends;
  video.addEventListener("loadedmetadata", () => {
    if (Math.abs(video.currentTime - event.start_s) > 0.05) video.currentTime = event.start_s;
  }, { signal });
  video.addEventListener("timeupdate", () => {
    if (video.currentTime < event.end_s || video.paused) return;
    video.pause();
    ends.abort();  // who plays on wants to see more
  }, { signal });
  video.src = path;
  video.play().catch(() => { /* the browser wants a click: its own controls are there */ });
}

/** Return a player: its element, and `play(event)`. */
export function makeStage() {
  const video = h("video", { controls: true, playsinline: true, preload: "metadata" });
  const caption = h("figcaption");
  const trouble = h("p", { class: "notice bad", role: "alert", hidden: true });
  const element = h("figure", { class: "stage", hidden: true }, video, trouble, caption);
  let shown = null;
  video.addEventListener("error", () => {
    if (!shown) return;
    trouble.replaceChildren("This clip does not play: the server may still be preparing it, or it cannot be read. ",
      button("Try again", () => play(shown), { kind: "small" }));
    trouble.hidden = false;
  });
  const play = (event) => {
    shown = event;
    trouble.hidden = true;
    element.hidden = false;
    const when = range(event.start_s, event.end_s);
    video.setAttribute("aria-label", `${event.name}, from ${clock(event.start_s)}`);
    caption.replaceChildren(
      h("span", {}, h("span", { class: "name" }, event.name), " ", h("span", { class: "muted" }, when)),
      h("span", { class: "row" },
        button("Again", () => playEvent(video, event), { kind: "small", icon: "play" }),
        h("a", { class: "button small", href: momentLink(event) }, "Show in the video")));
    playEvent(video, event);
  };
  const stop = () => {
    shown = null;
    video.stopWatching?.abort();
    video.pause();
    video.removeAttribute("src");
    video.load();
  };
  return { element, play, stop };
}

/** Play an event in a dialog over the page. */
export function playInDialog(event) {
  const stage = makeStage();
  const meta = eventMeta(event);
  const body = [stage.element, event.text && h("p", {}, `“${event.text}”`), meta && h("p", { class: "meta" }, meta)];
  const dialog = openDialog("Clip", body.filter(Boolean), { wide: true, onclose: stage.stop });
  dialog.addEventListener("click", (click) => {
    if (click.target.closest("a")) dialog.close();
  });
  stage.play(event);
}

/** Copy the address of a moment. */
export async function copyLink(hash) {
  const address = new URL(hash, location.href).href;
  try {
    await navigator.clipboard.writeText(address);
    announce("Link copied");
    return true;
  } catch {
    openDialog("Link to this moment", h("input", { type: "text", readonly: true, value: address, "aria-label": "Link", onfocus: (event) => event.target.select() }));
    return false;
  }
}
