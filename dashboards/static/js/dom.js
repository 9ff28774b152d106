// Builds elements. Text always goes in as text nodes: nothing here can turn a string into markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

/** h("p.note", {id: "a", onclick: f}, "text", node): an HTML element; `class` joins those of the tag. */
export function h(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name || "div");
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "class") element.classList.add(...value.split(" ").filter(Boolean));
    else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "vars") for (const [k, v] of Object.entries(value)) element.style.setProperty(k, v);
    else element.setAttribute(key, value === true ? "" : value);
  }
  return fill(element, children);
}

/** s("path", {d: "…"}): an SVG element. */
export function s(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) element.setAttribute(key, value);
  }
  return fill(element, children);
}

/** Replaces the content of an element. */
export function put(element, ...children) {
  element.replaceChildren();
  return fill(element, children);
}

/** Sets the text of an element only where it differs, so that selections and screen readers are left in peace. */
export function text(element, value) {
  const next = String(value);
  if (element.textContent !== next) element.textContent = next;
  return element;
}

const PATHS = {
  fleet: ["M4 5h7v6H4zM13 5h7v6h-7zM4 13h7v6H4zM13 13h7v6h-7z"],
  anomalies: ["M3 14h4l2.5-8 4 13 2.5-8 1.5 3H21"],
  pipeline: ["M3 8h6a3 3 0 0 1 3 3v2a3 3 0 0 0 3 3h6", "M18 13l3 3-3 3", "M3 16h3", "M18 8h3"],
  simulator: ["M5 4v7M5 15v5M12 4v3M12 11v9M19 4v10M19 18v2", "M3 13h4M10 9h4M17 16h4"],
  online: ["M12 12m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0"],
  search: ["M11 11m-6 0a6 6 0 1 0 12 0a6 6 0 1 0-12 0", "M15.5 15.5L20 20"],
  sun: ["M12 12m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0", "M12 3v2M12 19v2M3 12h2M19 12h2M5.6 5.6L7 7M17 17l1.4 1.4M5.6 18.4L7 17M17 7l1.4-1.4"],
  moon: ["M19 14.5A7.5 7.5 0 1 1 9.5 5a6 6 0 0 0 9.5 9.5z"],
  help: ["M12 12m-8.5 0a8.5 8.5 0 1 0 17 0a8.5 8.5 0 1 0-17 0", "M9.7 9.5a2.4 2.4 0 1 1 3.5 2.2c-.8.4-1.2 1-1.2 1.8", "M12 16.4v.2"],
  check: ["M5 12.5l4.5 4.5L19 7.5"],
  back: ["M14 6l-6 6 6 6"],
  close: ["M6 6l12 12M18 6L6 18"],
  chevron: ["M9 6l6 6-6 6"],
  cut: ["M4 12h5M15 12h5M10 7l4 10"],
  link: ["M4 12h16"],
  bolt: ["M13 3L5 14h6l-1 7 8-11h-6z"],
  layers: ["M12 4l8 4-8 4-8-4zM4 12l8 4 8-4M4 16l8 4 8-4"],
  cpu: ["M7 7h10v10H7zM10 3v4M14 3v4M10 17v4M14 17v4M3 10h4M3 14h4M17 10h4M17 14h4"],
  disk: ["M4 6c0-1.7 3.6-3 8-3s8 1.3 8 3-3.6 3-8 3-8-1.3-8-3z", "M4 6v12c0 1.7 3.6 3 8 3s8-1.3 8-3V6", "M4 12c0 1.7 3.6 3 8 3s8-1.3 8-3"],
  gate: ["M4 20V9l8-5 8 5v11", "M9 20v-6h6v6"],
  chip: ["M6 9a8 8 0 0 1 12 0M8.5 12a5 5 0 0 1 7 0M12 16m-1 0a1 1 0 1 0 2 0a1 1 0 1 0-2 0"],
};

/** A line icon of 1 em; decoration only, the word stands beside it. */
export function icon(name, size = 18) {
  const paths = (PATHS[name] ?? []).map((d) => s("path", { d }));
  return s("svg", { class: "icon", viewBox: "0 0 24 24", width: size, height: size, "aria-hidden": "true" }, ...paths);
}

const GLYPHS = {
  ok: s("circle", { cx: 6, cy: 6, r: 4 }),
  info: s("circle", { cx: 6, cy: 6, r: 3.5, class: "hollow" }),
  offline: s("path", { d: "M2.5 2.5l7 7M9.5 2.5l-7 7", class: "hollow" }),
  warning: s("path", { d: "M6 1l5 5-5 5-5-5z" }),
  critical: s("path", { d: "M6 1l5.5 10H.5z" }),
};

/** A status as shape, colour and word: never colour alone. */
export function status(kind, word) {
  const glyph = s("svg", { viewBox: "0 0 12 12", width: 11, height: 11, "aria-hidden": "true" }, GLYPHS[kind].cloneNode());
  return h("span.status", { class: kind }, glyph, h("span", {}, word));
}
