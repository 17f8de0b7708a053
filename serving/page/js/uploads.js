// Adding videos: upload or address, how far they are, how far the indexer is with them.

import { call, upload } from "./api.js";
import { announce, bar, button, field, h, icon } from "./dom.js";
import { problem, who } from "./session.js";
import { bytes, plural } from "./text.js";

const EVERY_MS = 1000;
const SHOWN = 5;

// Uploads go on while one looks at other views; their lines are kept with them.
const uploads = new Set();

window.addEventListener("beforeunload", (event) => {
  if ([...uploads].some((one) => one.sending)) event.preventDefault();
});

/** Return the panel that adds videos: the button that opens it, and its element. changed: called
 *  when a video has been indexed. */
export function uploadPanel(signal, changed) {
  const list = h("div", { class: "jobs", role: "group", "aria-label": "Videos that are being added" });
  const drop = h("div", { class: "drop", hidden: true });
  const file = h("input", { type: "file", accept: "video/*,.mkv,.ts,.avi,.mov", multiple: true, class: "unseen", tabindex: -1, "aria-label": "Video files" });
  const opener = button("Add videos", () => {
    drop.hidden = !drop.hidden;
    opener.setAttribute("aria-expanded", String(!drop.hidden));
    if (!drop.hidden) drop.querySelector("button")?.focus();
  }, { kind: "primary", icon: "upload", "aria-expanded": "false" });

  if (who.max_upload_bytes > 0) {
    drop.append(h("p", {}, "Drop video files here, or"),
      button("Choose files", () => file.click(), { icon: "film" }), file,
      h("p", { class: "muted small" }, `Up to ${bytes(who.max_upload_bytes)} each. They can be asked about as soon as they are indexed.`));
    file.addEventListener("change", () => { take(file.files); file.value = ""; });
    drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
    drop.addEventListener("dragleave", () => drop.classList.remove("over"));
    drop.addEventListener("drop", (event) => {
      event.preventDefault();
      drop.classList.remove("over");
      take(event.dataTransfer.files);
    });
    drop.append(addressForm((job) => watch(lineOf(job.name), job)));
  } else {
    drop.append(h("p", {}, "This server takes no new videos. Whoever runs it can allow uploads, or add videos with “marc index”."));
  }

  function take(files) {
    for (const one of files) {
      const line = lineOf(one.name);
      if (one.size > who.max_upload_bytes) line.fail(`It has ${bytes(one.size)}; this server takes up to ${bytes(who.max_upload_bytes)}.`);
      else sendFile(one, line);
    }
  }

  async function sendFile(one, line) {
    const stop = new AbortController();
    line.sending = true;
    line.show("Uploading…", 0, button("Cancel", () => stop.abort(), { kind: "quiet small", "aria-label": `Cancel the upload of ${one.name}` }));
    try {
      const job = await upload(one, { signal: stop.signal, onprogress: (share) => line.move(`Uploading… ${Math.round(100 * share)} %`, share) });
      line.sending = false;
      await watch(line, job);
    } catch (error) {
      line.sending = false;
      if (error.name === "AbortError") line.forget();
      else line.fail(error.message, () => sendFile(one, line));
    }
  }

  async function watch(line, job) {
    line.jobId = job.job_id;
    while (job.status === "queued" || job.status === "running") {
      line.show(...stateOf(job));
      await new Promise((resolve) => { setTimeout(resolve, EVERY_MS); });
      try {
        job = await call(`/v1/jobs/${encodeURIComponent(job.job_id)}`);
      } catch (error) {
        if (error.status && error.status !== 503) { line.fail(error.message); return; }
      }
    }
    line.end(job);
    document.dispatchEvent(new CustomEvent("marc:indexed"));
  }

  function lineOf(name) {
    const line = makeLine(name);
    list.prepend(line.element);
    return line;
  }

  async function takeUp() {
    const { data } = await call("/v1/jobs").catch(() => ({ data: [] }));
    const known = new Set([...uploads].map((line) => line.jobId));
    const open = data.filter((job) => ["queued", "running"].includes(job.status) && !known.has(job.job_id));
    for (const job of open.slice(0, SHOWN)) watch(lineOf(job.name), job);
  }

  list.append(...[...uploads].reverse().map((line) => line.element));
  document.addEventListener("marc:indexed", changed, { signal });
  if (who.max_upload_bytes > 0) takeUp();
  return { opener, element: h("div", { class: "view" }, drop, list) };
}

function stateOf(job) {
  if (job.status === "queued") return ["Waiting for the indexer…", null];
  const { progress } = job;
  if (!progress || progress.total <= 1) return ["Indexing…", null];
  return [`Indexing… ${progress.done + progress.failed} of ${progress.total}`, (progress.done + progress.failed) / progress.total];
}

/** One video that is being added. */
function makeLine(name) {
  const text = h("span", { class: "muted small" });
  const actions = h("span", { class: "row" });
  const shown = bar(0, `Progress of ${name}`);
  const element = h("div", { class: "job" },
    h("div", { class: "row spread" }, h("span", { class: "name" }, name), actions), shown, text);
  const line = {
    element, sending: false, jobId: null,
    move(words, share) { text.textContent = words; shown.set(share); },
    show(words, share, ...buttons) { line.move(words, share); shown.hidden = false; text.className = "muted small"; actions.replaceChildren(...buttons); },
    forget() { uploads.delete(line); element.remove(); },
    close: () => button("Dismiss", () => line.forget(), { kind: "quiet small", "aria-label": `Dismiss ${name}` }),
    fail(words, again) {
      shown.hidden = true;
      text.textContent = words;
      text.className = "notice bad small";
      actions.replaceChildren(...[again && button("Try again", again, { kind: "small" }), line.close()].filter(Boolean));
      announce(`${name}: ${words}`);
    },
    end(job) {
      if (job.status === "failed") { line.fail(job.message ?? "The indexing failed."); return; }
      const failed = job.progress?.failed ?? 0;
      if (failed && failed === job.progress.total) {
        line.fail(failed === 1 ? `It could not be indexed: ${job.message ?? "the list of videos says why."}` : `None of ${failed} videos could be indexed: the list of videos says why.`);
        return;
      }
      line.show(failed ? `Indexed; ${plural(failed, "video")} failed.` : "Indexed. You can ask about it now.", 1, ...[
        job.video_ids.length > 0 && h("a", { class: "button small", href: `#/video/${encodeURIComponent(job.video_ids[0])}` }, "Open"),
        line.close()].filter(Boolean));
      shown.hidden = true;
      announce(`${name} is indexed`);
    },
  };
  uploads.add(line);
  return line;
}

/** A form for files that lie where the server can read them. */
function addressForm(added) {
  const input = h("input", { type: "text", required: true, placeholder: "s3://bucket/folder/clip.mp4", spellcheck: "false" });
  const trouble = h("div");
  const form = h("form", {
    class: "address",
    onsubmit: async (event) => {
      event.preventDefault();
      trouble.replaceChildren();
      try {
        added(await call("/v1/videos", { method: "POST", json: { uri: input.value.trim() } }));
        input.value = "";
      } catch (error) {
        trouble.replaceChildren(error.status ? h("p", { class: "notice bad", role: "alert" }, error.message) : problem(error));
      }
    },
  }, field("Or add a file, folder or bucket prefix by its address", input),
  h("button", { type: "submit", class: "button" }, icon("link"), "Add"), trouble);
  return form;
}
