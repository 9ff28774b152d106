// The shell: brand, navigation, routes, theme, keys, the state of the live stream.

import { h, icon, put, status, text } from "./dom.js";
import { Live, nowUs } from "./api.js";
import * as format from "./format.js";
import { openHelp } from "./help.js";
import { fleetScreen } from "./fleet.js";
import { deviceScreen } from "./device.js";
import { anomaliesScreen } from "./anomalies.js";
import { pipelineScreen } from "./pipeline.js";
import { simulatorScreen } from "./simulator.js";

const SCREENS = [
  { path: "/", title: "Fleet", icon: "fleet", make: fleetScreen },
  { path: "/anomalies", title: "Anomalies", icon: "anomalies", make: anomaliesScreen },
  { path: "/pipeline", title: "Pipeline", icon: "pipeline", make: pipelineScreen },
  { path: "/simulator", title: "Simulator", icon: "simulator", make: simulatorScreen },
];
const LIVE_WORDS = { live: ["ok", "Live"], connecting: ["info", "Connecting"], lost: ["critical", "Reconnecting"] };

const main = document.getElementById("main");
const liveState = h("span.live-state", { role: "status" });
const clock = h("time.clock");
const live = new Live((state) => put(liveState, status(...LIVE_WORDS[state])));
let screen = null;

function matched(path) {
  const parts = path.split("/").filter(Boolean);
  if (parts[0] === "device" && parts.length === 3) {
    return { path: "/", title: parts[2], make: deviceScreen, site: parts[1], device: parts[2] };
  }
  return SCREENS.find((one) => one.path === path) ?? SCREENS[0];
}

/** Goes to a screen without loading the page anew. */
export function go(path, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"]({}, "", path);
  show();
}

function show() {
  screen?.stop?.();
  live.close();
  const found = matched(location.pathname === "/fleet" ? "/" : location.pathname);
  document.title = `${found.title} · Headwater`;
  for (const link of document.querySelectorAll(".nav a")) {
    if (link.getAttribute("href") === found.path) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  put(main);
  main.className = "main";
  scrollTo(0, 0);
  screen = found.make({ main, live, go, found, query: new URLSearchParams(location.search) });
}

function pickTheme() {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  try {
    if (next === system) localStorage.removeItem("headwater-theme");
    else localStorage.setItem("headwater-theme", next);
  } catch { /* A private window forgets the choice; the system's theme stays. */ }
  dispatchEvent(new Event("themepick"));
}

function build() {
  const mark = h("img", { src: "/static/icon.svg", alt: "", width: 28, height: 28 });
  put(document.querySelector(".brand"), mark, h("span", {}, "Headwater"));
  put(
    document.querySelector(".nav"),
    SCREENS.map((one) => h("a", { href: one.path, "data-link": true }, icon(one.icon, 20), h("span", {}, one.title))),
  );
  put(
    document.querySelector(".rail-foot"),
    liveState,
    clock,
    h("div.rail-tools", {},
      h("button.tool", { type: "button", title: "Light or dark", "aria-label": "Switch between light and dark", onclick: pickTheme }, icon("sun")),
      h("button.tool", { type: "button", title: "Keys (?)", "aria-label": "Help and keys", onclick: openHelp }, icon("help"))),
  );
  setInterval(() => {
    text(clock, format.time(nowUs()));
    clock.title = format.utc(nowUs());
    for (const one of document.querySelectorAll(".age")) text(one, format.ago(Number(one.dataset.us), nowUs()));
  }, 500);
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-link]");
  if (!link || event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  go(link.getAttribute("href"));
  main.focus({ preventScroll: true });
});

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest("input, select, textarea, dialog");
  if (isTyping || event.metaKey || event.ctrlKey || event.altKey) return;
  if (event.key === "?") openHelp();
  else if (event.key === "/") {
    event.preventDefault();
    const field = document.querySelector("input[type=search]");
    if (field) field.focus();
    else go("/?search=");
  } else if (/^[1-4]$/.test(event.key)) go(SCREENS[Number(event.key) - 1].path);
});

addEventListener("popstate", show);
build();
show();
