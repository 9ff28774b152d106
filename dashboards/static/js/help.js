// The dialog behind "?".

import { h } from "./dom.js";

const KEYS = [
  ["1 2 3 4", "Fleet, Anomalies, Pipeline, Simulator"],
  ["/", "Search devices"],
  ["?", "This help"],
  ["Tab", "Next control; charts are controls too"],
  ["← →", "On a chart: move the cursor (with Shift by ten)"],
  ["+ −", "On a chart: zoom around the cursor"],
  ["Esc", "On a chart: back to the live range"],
];

export function openHelp() {
  document.querySelector("dialog.help")?.remove();
  const dialog = h("dialog.help", { "aria-labelledby": "help-title" },
    h("form", { method: "dialog" },
      h("div.dialog-head", {}, h("h2", { id: "help-title" }, "Keys"), h("button.button", { value: "close", autofocus: true }, "Close")),
      h("dl.keys", {}, KEYS.map(([key, words]) => [h("dt", {}, key.split(" ").map((one) => h("kbd", {}, one))), h("dd", {}, words)])),
      h("p.muted", {}, "On a chart, drag to zoom and double-click to go back to the live range. The shaded band is minimum to maximum, ",
        "the dashed band is what was expected, and a mark is an anomaly: ▲ critical, ◆ warning, ● information."),
      h("p.muted", {}, "Times are local; hover over one for UTC.")));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
