// Asking: a conversation. It stays while one looks at videos and comes back.

import { call, withQuery } from "./api.js";
import { button, field, h, icon, ownPath } from "./dom.js";
import { makeTurn } from "./answer.js";
import { filterChips, filterPanel, filters } from "./filters.js";
import { picture } from "./events.js";
import { missing, may } from "./session.js";
import { clock, plural } from "./text.js";

export const NAME = "ask";
const GLANCE = 4;

let kept = null;

/** Show the conversation. */
export function show() {
  kept ??= makeConversation();
  kept.refresh();
  return { title: "Ask", element: kept.element, focus: kept.input };
}

function makeConversation() {
  const turns = [];
  let running = null;
  const forever = new AbortController().signal;  // the view lives as long as the page
  const thread = h("div", { class: "thread" });
  const lacks = h("div");
  const glance = h("section", { class: "glance", "aria-label": "In this archive" });
  const input = h("textarea", { rows: 1, "aria-label": "Your question", placeholder: "Ask about your videos", maxlength: 20000 });
  const submit = h("button", { type: "submit", class: "button primary round", "aria-label": "Ask" }, icon("send"));
  const stop = button("", () => running?.stop(), { kind: "round", icon: "stop", "aria-label": "Stop the answer", hidden: true });
  const fresh = button("New conversation", startOver, { kind: "quiet small", hidden: true });
  const options = makeOptions();
  const form = h("form", { class: "composer", "aria-label": "Ask", onsubmit: (event) => { event.preventDefault(); send(); } },
    filterChips(forever), h("div", { class: "line" }, input, stop, submit),
    h("div", { class: "under" }, filterPanel(forever), options.element, fresh));
  const hero = h("div", { class: "hero" }, h("h1", {}, "Ask your videos"),
    h("p", {}, "Every answer comes with the clips it rests on."));
  const element = h("div", { class: "view ask" }, hero, lacks, thread, form, glance);

  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  });
  input.addEventListener("input", fit);

  function fit() {
    input.style.height = "auto";
    input.style.height = `${input.scrollHeight}px`;
  }

  function startOver() {
    running?.stop();
    turns.length = 0;
    thread.replaceChildren();
    refresh();
    input.focus();
  }

  async function send() {
    const question = input.value.trim();
    if (!question || running || !may("ask")) return;
    input.value = "";
    fit();
    const turn = { question, answer: null, ...makeTurn(question) };
    const marc = { filter: filters.toJson(), ...options.toJson() };
    const run = async () => {
      const history = turns.slice(0, turns.indexOf(turn)).filter((one) => one.answer)
        .flatMap((one) => [{ role: "user", content: one.question }, { role: "assistant", content: one.answer }]);
      running = turn;
      busy(true);
      turn.answer = await turn.ask(history, marc);
      running = null;
      busy(false);
    };
    turn.element.addEventListener("retry", () => { if (!running) run(); });
    turns.push(turn);
    thread.append(turn.element);
    refresh();
    turn.element.scrollIntoView({ block: "start", behavior: "smooth" });
    await run();
  }

  function busy(is) {
    const had = document.activeElement === (is ? submit : stop);
    submit.hidden = is;
    stop.hidden = !is;
    if (had) (is ? stop : input).focus();
  }

  function refresh() {
    const lack = missing("ask");
    lacks.replaceChildren(...(lack ? [lack] : []));
    input.disabled = submit.disabled = lack !== null;
    element.classList.toggle("has-thread", turns.length > 0);
    hero.className = turns.length ? "unseen" : "hero";
    fresh.hidden = turns.length === 0;
    if (!turns.length && may("read")) lookAround(glance);
  }

  return { element, input, refresh };
}

/** What a question may say beside its words. */
function makeOptions() {
  const choices = h("textarea", { rows: 3, placeholder: "left\nright" });
  const k = h("input", { type: "number", min: 1, max: 1000, placeholder: "The server’s own" });
  const budget = h("input", { type: "number", min: 0, max: 1000000, placeholder: "The server’s own" });
  const element = h("details", {}, h("summary", {}, "Options"), h("div", { class: "fields" },
    field("Possible answers, one a line", choices, "For a multiple-choice question."),
    field("Events to read", k), field("Visual tokens at most", budget, "0: as many as one frame has.")));
  const number = (input) => (input.value === "" || !input.validity.valid ? null : Number(input.value));
  const toJson = () => {
    const lines = choices.value.split("\n").map((text) => text.trim()).filter(Boolean);
    return {
      ...(lines.length > 0 && { options: lines }),
      ...(number(k) !== null && { k: number(k) }),
      ...(number(budget) !== null && { budget_tokens: number(budget) }),
    };
  };
  return { element, toJson };
}

/** Show what the archive holds. */
async function lookAround(place) {
  let page;
  try {
    page = await call(withQuery("/v1/videos", { limit: GLANCE, status: "indexed" }));
  } catch {
    return;  // the question's own error will say it
  }
  if (page.total === 0) {
    place.replaceChildren(h("p", { class: "notice" }, "The archive is empty. ",
      h("a", { href: "#/videos" }, may("ingest") ? "Add a video" : "See its videos"), "."));
    return;
  }
  place.replaceChildren(
    h("div", { class: "row spread" }, h("h2", {}, `${plural(page.total, "video")} to ask about`), h("a", { href: "#/videos" }, "See all")),
    h("ul", { class: "clips" }, page.data.map((video) => h("li", { class: "card" },
      h("a", { class: "thumb", href: `#/video/${encodeURIComponent(video.video_id)}`, "aria-label": video.name },
        picture(ownPath(video.thumbnail_url)), video.duration_s && h("span", { class: "time" }, clock(video.duration_s))),
      h("div", { class: "card-body" }, h("span", { class: "name" }, video.name),
        h("span", { class: "meta" }, plural(video.num_events, "event")))))));
}
