// The page: routes by the address's fragment, one view at a time.
//
//   #/                      ask                #/videos?name=...    all videos, uploads
//   #/search?q=...          search             #/video/ID?t=12.5    one video, at a moment

import { h, waiting } from "./dom.js";
import * as ask from "./ask.js";
import * as search from "./search.js";
import * as session from "./session.js";
import * as video from "./video.js";
import * as videos from "./videos.js";

const VIEWS = { "": ask, search, videos, video };
const main = document.getElementById("main");
let current = null;

function address() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, id = ""] = path.split("/");
  let decoded = id;
  try { decoded = decodeURIComponent(id); } catch { /* not encoded: taken as it stands */ }
  return { name, id: decoded, params: new URLSearchParams(query) };
}

async function show({ focus = true, again = false } = {}) {
  const place = address();
  const view = VIEWS[place.name] ?? ask;
  if (!again && current?.view === view && current.id === place.id && current.update) {
    current.update(place.params);
    return;
  }
  current?.leaving.abort();
  const leaving = new AbortController();
  current = { view, id: place.id, leaving };
  for (const link of document.querySelectorAll("#nav a")) {
    const own = link.dataset.view === (view === video ? "videos" : view.NAME);
    if (own) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  if (session.who === null) {
    main.replaceChildren(waiting("Connecting to the server…"));
    try {
      await session.load();
    } catch (error) {
      session.showAccount();
      main.replaceChildren(h("h1", { class: "unseen" }, "MARC"), session.problem(error, () => show({ again: true })));
      current = null;
      return;
    }
    if (leaving.signal.aborted) return;
  }
  const shown = view.show({ id: place.id, params: place.params, signal: leaving.signal });
  main.replaceChildren(shown.element);
  document.title = `${shown.title} – MARC`;
  current.update = shown.update;
  window.scrollTo(0, 0);
  if (focus) {
    const heading = main.querySelector("h1");
    heading?.setAttribute("tabindex", "-1");
    (shown.focus ?? heading)?.focus({ preventScroll: true });
  }
}

document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();  // the fragment is the route's
  main.focus();
});
document.addEventListener("marc:unauthorised", ({ detail }) => session.enterKey(
  detail.code === "missing_api_key" ? undefined : detail.message));
document.addEventListener("marc:changed", () => show({ again: true, focus: false }));
window.addEventListener("hashchange", () => show());
show({ focus: false });
