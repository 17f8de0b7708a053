// One question and its answer: the text as it comes, the clips it rests on, what it cost.

import { announce, bar, h } from "./dom.js";
import { stream } from "./api.js";
import { eventCard, makeStage } from "./events.js";
import { problem, who } from "./session.js";
import { duration, plural, saved } from "./text.js";

const STEPS = {
  embed: "Read the question",
  retrieve: "Find events",
  features: "Load features",
  compress: "Compress",
  generate: "Write the answer",
};

/** Return a turn: its element, and `ask(history, marc)`, which returns the answer's text, or null
 *  where there is none. */
export function makeTurn(question) {
  const text = h("p", { class: "answer-text" });
  const below = h("div", { class: "answer" });
  const answer = h("div", { class: "answer", "aria-live": "polite", "aria-busy": "true" }, text);
  const element = h("article", { class: "turn", "aria-label": question }, h("h2", {}, question), answer, below);
  let leaving = null;

  async function ask(history, marc) {
    leaving = new AbortController();
    text.textContent = "";
    text.hidden = false;
    below.replaceChildren();
    answer.setAttribute("aria-busy", "true");
    const body = {
      model: who.model, stream: true, marc,
      messages: [...history, { role: "user", content: question }],
    };
    try {
      for await (const chunk of stream("/v1/chat/completions", body, leaving.signal)) {
        text.textContent += chunk.choices[0]?.delta.content ?? "";
        if (chunk.marc) below.append(...evidence(chunk.marc));
      }
      if (!text.textContent) text.append(h("span", { class: "muted" }, "The answer is empty."));
      announce("The answer is complete.");
      return text.textContent;
    } catch (error) {
      if (error.name === "AbortError") {
        below.append(h("p", { class: "muted small" }, "Stopped."));
        return null;
      }
      text.hidden = !text.textContent;
      below.append(problem(error, () => element.dispatchEvent(new Event("retry"))));
      return null;
    } finally {
      answer.setAttribute("aria-busy", "false");
    }
  }
  return { element, ask, stop: () => leaving?.abort() };
}

function evidence(marc) {
  return [...(marc.warning ? [h("p", { class: "notice", role: "note" }, marc.warning)] : []), marc.citations.length ? clips(marc.citations) : h("p", { class: "muted" }, "No event of the archive was used."), facts(marc)];
}

function clips(citations) {
  const stage = makeStage();
  const play = (event, card) => {
    for (const other of list.children) other.classList.toggle("playing", other === card);
    stage.play(event);
    stage.element.scrollIntoView({ block: "nearest", behavior: "smooth" });
  };
  const list = h("ul", { class: "clips" }, citations.map((event, i) =>
    eventCard(event, { number: i + 1, onplay: play })));
  const heading = citations.length === 1 ? "From this clip" : `From these ${citations.length} clips`;
  return h("section", { class: "evidence", "aria-label": "Clips of the answer" },
    h("h3", {}, heading), stage.element, list);
}

function facts({ tokens, timings, retrieval }) {
  const share = saved(tokens.before, tokens.after);
  const total = timings.total ?? 0;
  return h("details", { class: "facts" },
    h("summary", {}, h("span", { class: "saved" }, `${share} fewer visual tokens`), ` · answered in ${duration(total)}`),
    h("div", { class: "facts-body" },
      h("section", { class: "compare", "aria-label": "Visual tokens" }, h("h3", {}, "Visual tokens"),
        line("All frames", tokens.before, tokens.before, tokens.before.toLocaleString(), true),
        line("After compression", tokens.after, tokens.before, tokens.after.toLocaleString()),
        h("p", { class: "meta" }, retrieval === "bypassed"
          ? "The whole video fits: nothing had to be retrieved."
          : `The student read ${plural(tokens.after, "token")} instead of ${tokens.before.toLocaleString()}.`)),
      h("section", { class: "compare", "aria-label": "Time" }, h("h3", {}, "Time"),
        Object.entries(timings).filter(([step]) => step !== "total" && step !== "first_token")
          .map(([step, seconds]) => line(STEPS[step] ?? step, seconds, total, duration(seconds))),
        timings.first_token !== undefined && h("p", { class: "meta" },
          `First word ${duration(timings.first_token)} after the writing began.`))));
}

function line(label, part, whole, text, dim = false) {
  const shown = bar(whole > 0 ? Math.min(1, part / whole) : 0, label);
  shown.removeAttribute("role");
  for (const name of ["aria-valuemin", "aria-valuemax", "aria-valuenow", "aria-label"]) shown.removeAttribute(name);
  shown.setAttribute("aria-hidden", "true");
  return h("div", { class: dim ? "dim" : "" }, h("span", {}, label), shown, h("span", {}, text));
}
