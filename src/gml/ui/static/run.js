// The page of a run: its curves, and everything that moves while it runs.

import { Charts, load } from "./chart.js";
import { address } from "./site.js";

const page = document.getElementById("run");
const run = page.dataset.run;
const charts = new Charts(document.getElementById("charts"), true);
charts.runs[run] = { name: "", start: Number(page.dataset.start) };
charts.order.push(run);
addEventListener("gml-scroll", () => charts.point());

function complain(text) {
  const line = document.createElement("p");
  line.className = "error";
  line.textContent = text;
  document.getElementById("charts").before(line);
}

if (page.dataset.live === "1") follow();
else if (charts.charts.size) load(charts, [run]).catch((error) => complain(error.message));

function cell(row, name, text) {
  const place = row.querySelector(`[data-cell="${name}"]`);
  if (place && place.textContent !== String(text)) place.textContent = text;
}

function metric(key) {
  const body = document.querySelector("#metric-table tbody");
  if (!body) return null;
  const found = [...body.rows].find((row) => row.dataset.metric === key);
  if (found) return found;
  const row = body.insertRow();
  row.dataset.metric = key;
  const head = document.createElement("th");
  head.scope = "row";
  head.textContent = key;
  row.append(head);
  for (const name of ["last", "min", "max", "step", "count"]) {
    const place = row.insertCell();
    place.className = "n";
    place.dataset.cell = name;
  }
  row.insertCell();
  return row;
}

function log(name, text) {
  const logs = document.getElementById("logs");
  let box = [...logs.querySelectorAll("details")].find((each) => each.dataset.log === name);
  if (!box) {
    logs.querySelector("p")?.remove();
    box = document.createElement("details");
    box.open = true;
    box.dataset.log = name;
    const title = document.createElement("summary");
    title.textContent = name;
    const pre = document.createElement("pre");
    pre.className = "log";
    pre.tabIndex = 0;
    box.append(title, pre);
    logs.append(box);
  }
  const pre = box.querySelector("pre");
  const end = pre.scrollHeight - pre.scrollTop - pre.clientHeight < 40;
  pre.textContent = text;
  if (end) pre.scrollTop = pre.scrollHeight;
}

function follow() {
  const stream = new EventSource(address(`live?runs=${encodeURIComponent(run)}`));
  addEventListener("pagehide", () => stream.close());
  stream.addEventListener("run", (event) => {
    const told = JSON.parse(event.data);
    if (told.status) {
      const badge = document.querySelector("#status .status");
      badge.textContent = told.status;
      badge.className = `status ${told.status.toLowerCase()}${told.live ? " live" : ""}`;
    }
    for (const [key, facts] of Object.entries(told.metrics ?? {})) {
      const row = metric(key);
      if (row) for (const [name, value] of Object.entries(facts)) cell(row, name, value);
      else location.reload();
    }
    for (const [key, curve] of Object.entries(told.curves ?? {})) {
      document.getElementById("no-curves").hidden = true;
      charts.set(key, run, curve);
    }
    for (const [name, text] of Object.entries(told.logs ?? {})) log(name, text);
    charts.draw();
    if (told.live === false) {
      stream.close();
      setTimeout(() => location.reload(), 700);
    }
  });
}
