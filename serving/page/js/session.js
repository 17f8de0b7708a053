// Who asks: the key, what it may do, and the states of a server that cannot be asked.

import { ApiError, OfflineError, call, key } from "./api.js";
import { button, field, h, icon, openDialog, state } from "./dom.js";
import { moment } from "./text.js";

/** What /v1/whoami said; null before it did. */
export let who = null;

/** Ask the server who we are. Raises ApiError, OfflineError. */
export async function load() {
  who = await call("/v1/whoami");
  showAccount();
  return who;
}

export const may = (scope) => who !== null && who.scopes.includes(scope);

const SCOPES = {
  read: "search, list and watch",
  ask: "ask questions",
  ingest: "upload and delete",
  admin: "see metrics",
};

/** Return a notice where the key lacks a scope, else null. */
export function missing(scope) {
  if (who === null || may(scope)) return null;
  const has = who.scopes.map((own) => SCOPES[own] ?? own).join("; ") || "nothing";
  return h("p", { class: "notice", role: "note" },
    `Your key “${who.name}” may not ${SCOPES[scope]}: it lacks the scope “${scope}”. It may: ${has}. `,
    "Ask whoever runs this server for a key that has it, or ",
    button("enter another key", () => enterKey(), { kind: "small" }));
}

/** Show in the header whose key is in use. */
export function showAccount() {
  const place = document.getElementById("account");
  const label = who && !who.anonymous ? who.name : "Key";
  place.replaceChildren(button(label, openAccount, { kind: "quiet small", icon: "key", "aria-label": `API key: ${who && !who.anonymous ? who.name : "none"}` }));
}

function openAccount() {
  if (who === null || who.anonymous && !key.get()) {
    enterKey();
    return;
  }
  const facts = h("dl", { class: "about" },
    h("div", {}, h("dt", {}, "Key"), h("dd", {}, who.name)),
    h("div", {}, h("dt", {}, "Good until"), h("dd", {}, who.expires_at ? moment(who.expires_at) : "it is revoked")),
    h("div", { class: "full" }, h("dt", {}, "You may"),
      h("dd", {}, who.scopes.map((scope) => SCOPES[scope] ?? scope).join("; "))));
  const dialog = openDialog("Your key", [facts, h("div", { class: "dialog-actions" },
    button("Forget it", () => { key.forget(); location.reload(); }),
    button("Use another", () => { dialog.close(); enterKey(); }, { kind: "primary" }))]);
}

let asking = null;

/** Open the form for a key. problem: why the last one was refused. */
export function enterKey(problem) {
  if (asking) return;
  const input = h("input", { type: "password", autocomplete: "off", spellcheck: "false", placeholder: "mk_…", required: true });
  const error = h("p", { class: "notice bad", role: "alert", hidden: !problem }, problem ?? "");
  const submit = h("button", { type: "submit", class: "button primary" }, "Continue");
  const form = h("form", {
    class: "dialog-body",
    onsubmit: async (event) => {
      event.preventDefault();
      const before = key.get();
      submit.disabled = true;
      key.set(input.value.trim());
      try {
        await load();
        asking.close();
        document.dispatchEvent(new CustomEvent("marc:changed"));
      } catch (refused) {
        if (before) key.set(before); else key.forget();
        error.textContent = refused.message;
        error.hidden = false;
        input.focus();
      } finally {
        submit.disabled = false;
      }
    },
  },
  h("p", {}, "Enter the API key that you were given. It stays in this tab only, and is gone when you close it."),
  error, field("API key", input), h("div", { class: "dialog-actions" }, submit));
  asking = openDialog("This server asks for a key", form, { onclose: () => { asking = null; } });
  input.focus();
}

/** Return what stands where a request failed. retry: does it again. */
export function problem(error, retry) {
  const again = retry && button("Try again", retry, { kind: "primary" });
  const show = (title, picture, actions = [again]) =>
    state({ title, picture, text: error.message, actions: actions.filter(Boolean), bad: true });
  if (error instanceof OfflineError) return show("The server does not answer", "alert");
  if (!(error instanceof ApiError)) return show("Something went wrong on this page", "alert");
  switch (error.status) {
    case 401: return show("A key is needed", "key", [button("Enter a key", () => enterKey(), { kind: "primary" })]);
    case 403: return show("Your key may not do this", "key", [button("Enter another key", () => enterKey())]);
    case 404: return show("It is not there", "search", []);
    case 409: return show("Not ready for answers yet", "alert");
    case 422: return show("This cannot be answered", "search", []);
    case 429: return show("Too many requests", "alert");
    case 503: return show("The server is busy", "alert");
    case 504: return show("It took too long", "alert");
    default: return show("Something went wrong", "alert");
  }
}

// A server that is gone: a banner that goes away by itself.

const EVERY_MS = 3000;
let watching = null;

document.addEventListener("marc:offline", () => {
  if (watching) return;
  const banner = document.getElementById("banner");
  banner.replaceChildren(icon("alert"), h("span", {}, "The server does not answer. Trying again every few seconds."),
    button("Try now", look, { kind: "small" }));
  banner.hidden = false;
  watching = setInterval(look, EVERY_MS);
});

async function look() {
  const answer = await fetch("/health", { cache: "no-store" }).catch(() => null);
  if (!answer?.ok || !watching) return;
  clearInterval(watching);
  watching = null;
  document.getElementById("banner").hidden = true;
  document.dispatchEvent(new CustomEvent("marc:changed"));
}
