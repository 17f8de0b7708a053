// The server: requests, errors, streams, uploads. docs/serving.md is the contract.

const KEY = "marc.key";

/** An answer that is an error, as the server words it. */
export class ApiError extends Error {
  constructor(status, { message, code, param } = {}, retryAfterS = null) {
    super(message || `The server answered with status ${status}.`);
    Object.assign(this, { status, code, param, retryAfterS });
  }
}

/** No answer at all. */
export class OfflineError extends Error {
  constructor() { super("The server does not answer. Check that it runs and that this device is connected."); }
}

/** The API key, for as long as this tab lives. */
export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

const tell = (name, detail) => document.dispatchEvent(new CustomEvent(`marc:${name}`, { detail }));

function authorised(headers = {}) {
  const own = key.get();
  return own ? { ...headers, Authorization: `Bearer ${own}` } : headers;
}

async function errorOf(response) {
  const body = await response.json().catch(() => ({}));
  return failed(response.status, body, response.headers.get("Retry-After"));
}

function failed(status, body, retryAfter) {
  const error = new ApiError(status, body?.error, retryAfter === null ? null : Number(retryAfter));
  if (status === 401) tell("unauthorised", error);
  return error;
}

/** Send a request; return the response. Raises ApiError, OfflineError, AbortError. */
export async function send(path, { method = "GET", json, signal } = {}) {
  const headers = authorised(json === undefined ? {} : { "Content-Type": "application/json" });
  const body = json === undefined ? undefined : JSON.stringify(json);
  let response;
  try {
    response = await fetch(path, { method, headers, body, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    tell("offline");
    throw new OfflineError();
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}

/** Send a request; return its JSON. */
export const call = async (path, options) => (await send(path, options)).json();

/** Return a path with a query; undefined, null and "" are left out. */
export function withQuery(path, values) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values))
    if (value !== undefined && value !== null && value !== "") query.set(name, value);
  return query.size ? `${path}?${query}` : path;
}

/** Yield the JSON of each server-sent event. Raises ApiError for an error in the stream, and
 *  OfflineError where it ends without its last word. */
export async function* stream(path, json, signal) {
  const response = await send(path, { method: "POST", json, signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) throw new OfflineError();
      const blocks = (rest + value).split(/\r?\n\r?\n/);
      rest = blocks.pop();
      for (const block of blocks) {
        const data = block.split(/\r?\n/).filter((line) => line.startsWith("data:"))
          .map((line) => line.slice(5).trimStart()).join("\n");
        if (data === "[DONE]") return;
        if (!data) continue;
        const chunk = JSON.parse(data);
        if (chunk.error) throw new ApiError(500, chunk.error);
        yield chunk;
      }
    }
  } catch (error) {
    if (error instanceof TypeError) {  // the connection broke
      tell("offline");
      throw new OfflineError();
    }
    throw error;
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Upload a file; onprogress gets the share sent, 0 to 1. Return the job. */
export function upload(file, { onprogress, signal }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();  // fetch does not tell how far an upload is
    request.open("POST", withQuery("/v1/uploads", { name: file.name }));
    for (const [name, value] of Object.entries(authorised())) request.setRequestHeader(name, value);
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) onprogress(event.loaded / event.total);
    });
    request.addEventListener("load", () => {
      if (request.status < 300) resolve(request.response);
      else reject(failed(request.status, request.response, request.getResponseHeader("Retry-After")));
    });
    request.addEventListener("error", () => { tell("offline"); reject(new OfflineError()); });
    request.addEventListener("abort", () => reject(new DOMException("stopped", "AbortError")));
    signal?.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}
