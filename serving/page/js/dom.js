// Elements, states, dialogs. Text goes in as text nodes only: nothing here parses markup.

const SVG = "http://www.w3.org/2000/svg";
const PROPERTIES = new Set(["value", "checked", "disabled", "selected", "hidden", "open"]);

/** Return an element with attributes (`onclick` and its like are listeners) and children. */
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") element.addEventListener(key.slice(2), value);
    else if (PROPERTIES.has(key)) element[key] = value;
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...children.flat(5).filter((child) => child || child === 0).map((child) =>
    child instanceof Node ? child : String(child)));
  return element;
}

const ICONS = {
  send: ["M12 19V5", "M6 11l6-6 6 6"],
  stop: ["M7 7h10v10H7z"],
  search: ["M11 4a7 7 0 1 0 0 14a7 7 0 1 0 0-14", "M20 20l-4-4"],
  play: ["M8 5v14l11-7z"],
  close: ["M6 6l12 12", "M18 6L6 18"],
  film: ["M4 5h16v14H4z", "M8 5v14", "M16 5v14", "M4 12h16"],
  upload: ["M12 16V4", "M7 9l5-5 5 5", "M4 20h16"],
  key: ["M8 11a4 4 0 1 0 0 8a4 4 0 1 0 0-8", "M11 12l8-8", "M16 7l3 3"],
  link: ["M10 14a4 4 0 0 0 6 0l3-3a4 4 0 0 0-6-6l-1 1", "M14 10a4 4 0 0 0-6 0l-3 3a4 4 0 0 0 6 6l1-1"],
  alert: ["M12 4L2.5 20h19z", "M12 10v4", "M12 17v.2"],
  trash: ["M5 7h14", "M9 7V4h6v3", "M7 7l1 13h8l1-13"],
  image: ["M4 5h16v14H4z", "M4 16l5-5 4 4 3-3 4 4", "M15.5 9v.1"],
  back: ["M19 12H5", "M11 6l-6 6 6 6"],
};

/** Return a decorative icon. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  for (const [key, value] of Object.entries({ class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" }))
    svg.setAttribute(key, value);
  for (const path of ICONS[name]) {
    const line = document.createElementNS(SVG, "path");
    line.setAttribute("d", path);
    svg.append(line);
  }
  return svg;
}

/** Return a button; `kind` is classes such as "primary small". */
export function button(text, onclick, { kind = "", icon: name, ...attributes } = {}) {
  return h("button", { type: "button", class: `button ${kind}`.trim(), onclick, ...attributes },
    name && icon(name), text);
}

let fields = 0;

/** Return a labelled field around a control. */
export function field(label, control, hint) {
  control.id ||= `field-${++fields}`;
  const note = hint && h("span", { class: "hint", id: `${control.id}-hint` }, hint);
  if (note) control.setAttribute("aria-describedby", note.id);
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control, note);
}

/** Return a <select>; choices are [value, text] or plain values. */
export function select(choices, value, onchange) {
  const options = choices.map((choice) => {
    const [own, text] = Array.isArray(choice) ? choice : [choice, choice];
    return h("option", { value: own, selected: own === value }, text);
  });
  return h("select", { onchange: (event) => onchange(event.target.value) }, options);
}

/** Say something to screen readers. */
export function announce(text) {
  const status = document.getElementById("status");
  status.textContent = "";
  setTimeout(() => { status.textContent = text; }, 60);
}

/** Return what stands where nothing else can: a picture, a heading, a sentence, actions. */
export function state({ picture = "film", title, text, actions = [], bad = false }) {
  return h("div", { class: bad ? "state bad" : "state", role: bad ? "alert" : undefined },
    h("span", { class: "picture" }, icon(picture)),
    h("h2", {}, title), text && h("p", {}, text),
    actions.length > 0 && h("div", { class: "row" }, actions));
}

/** Return what stands while something loads. */
export function waiting(text) {
  return h("div", { class: "waiting", role: "status" }, h("span", { class: "spinner" }), text);
}

/** Return a progress bar; share: 0 to 1, or null where it is not known. */
export function bar(share, label) {
  const inner = h("span");
  const outer = h("div", { class: "bar", role: "progressbar", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100 }, inner);
  outer.set = (value) => {
    outer.classList.toggle("unknown", value === null);
    inner.style.setProperty("--share", value ?? 0);
    if (value === null) outer.removeAttribute("aria-valuenow");
    else outer.setAttribute("aria-valuenow", Math.round(100 * value));
  };
  outer.set(share);
  return outer;
}

/** Open a modal dialog; return it. Focus comes back to where it was when it closes. */
export function openDialog(title, body, { wide = false, onclose } = {}) {
  const before = document.activeElement;
  const heading = h("h2", { id: `dialog-${++fields}` }, title);
  const dialog = h("dialog", { class: wide ? "wide" : "", "aria-labelledby": heading.id },
    h("div", { class: "dialog-head" }, heading,
      button("", () => dialog.close(), { kind: "quiet round", icon: "close", "aria-label": "Close" })),
    h("div", { class: "dialog-body" }, body));
  dialog.addEventListener("close", () => {
    dialog.remove();
    onclose?.();
    if (before?.isConnected) before.focus();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Ask before something that cannot be undone; return whether it shall be. */
export function confirmed(title, text, action) {
  return new Promise((resolve) => {
    let answer = false;
    const yes = button(action, () => { answer = true; dialog.close(); }, { kind: "danger", icon: "trash" });
    const no = button("Cancel", () => dialog.close());
    const dialog = openDialog(title, [h("p", {}, text), h("div", { class: "dialog-actions" }, no, yes)],
      { onclose: () => resolve(answer) });
    no.focus();
  });
}

/** Return a path of this server to be used as an address, or null: nothing else is ever loaded. */
export function ownPath(url) {
  return typeof url === "string" && url.startsWith("/") && !url.startsWith("//") ? url : null;
}
