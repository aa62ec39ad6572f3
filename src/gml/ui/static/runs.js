// The table of runs: choosing, keys, completion of queries, and running trainings that move.

import { typing } from "./page.js";
import "./query.js";
import { address, live } from "./site.js";

const table = document.getElementById("runs");
const compare = document.getElementById("compare");
const boxes = () => [...document.querySelectorAll('#runs input[name="run"]')];

function count() {
  const chosen = boxes().filter((box) => box.checked);
  compare.disabled = chosen.length < 2;
  document.getElementById("chosen").textContent = chosen.length ? String(chosen.length) : "";
}

function go() {
  const ids = boxes().filter((box) => box.checked).map((box) => box.value);
  if (ids.length > 1) location.assign(address(`${live ? "compare" : "compare.html"}?runs=${ids.map(encodeURIComponent).join(",")}`));
}

compare?.addEventListener("click", go);
if (table) {
  let last = null;
  document.getElementById("all").addEventListener("change", (event) => {
    for (const box of boxes()) box.checked = event.target.checked;
    count();
  });
  table.addEventListener("click", (event) => {
    const box = event.target.closest('input[name="run"]');
    if (!box) return;
    if (event.shiftKey && last) {
      const all = boxes();
      const [from, to] = [all.indexOf(last), all.indexOf(box)].sort((a, b) => a - b);
      for (const one of all.slice(from, to + 1)) one.checked = box.checked;
    }
    last = box;
    count();
  });
  count();
}

for (const button of document.querySelectorAll("[data-pin]")) {
  button.addEventListener("click", () => {
    const here = new URL(location.href);
    const pins = new Set((here.searchParams.get("pin") ?? "").split(",").filter(Boolean));
    const run = button.closest("tr").dataset.run;
    if (!pins.delete(run)) pins.add(run);
    if (pins.size) here.searchParams.set("pin", [...pins].join(","));
    else here.searchParams.delete("pin");
    location.assign(here);
  });
}

let row = -1;
document.addEventListener("keydown", (event) => {
  if (typing(event) || event.ctrlKey || event.metaKey || event.altKey) return;
  const rows = [...document.querySelectorAll("#runs tr[data-run]")];
  if (event.key === "q") {
    event.preventDefault();
    document.getElementById("query")?.focus();
  } else if ((event.key === "j" || event.key === "k") && rows.length) {
    row = Math.max(0, Math.min(rows.length - 1, row + (event.key === "j" ? 1 : -1)));
    rows.forEach((each, i) => each.setAttribute("aria-selected", String(i === row)));
    rows[row].scrollIntoView({ block: "nearest" });
  } else if (event.key === "x" && rows[row]) {
    const box = rows[row].querySelector("input");
    box.checked = !box.checked;
    count();
  } else if (event.key === "p" && rows[row]) {
    rows[row].querySelector("[data-pin]")?.click();
  } else if (event.key === "Enter" && rows[row] && event.target === document.body) {
    location.assign(rows[row].querySelector("a").href);
  } else if (event.key === "c") go();
});

// --- order, where no server sorts -----------------------------------------------------------

function value(row, at, numeric) {
  const cell = row.cells[at];
  const text = cell.dataset.value ?? cell.querySelector("time")?.dateTime ?? cell.textContent.trim();
  const number = Number(text);
  return numeric ? (text === "" || Number.isNaN(number) ? -Infinity : number) : text.toLowerCase();
}
for (const button of document.querySelectorAll("[data-sort]")) {
  const head = button.closest("th");
  button.addEventListener("click", () => {
    const down = head.ariaSort !== "descending";
    for (const other of table.tHead.querySelectorAll("th")) other.removeAttribute("aria-sort");
    head.ariaSort = down ? "descending" : "ascending";
    const numeric = head.classList.contains("n");
    const keyed = [...table.tBodies[0].rows].map((one) => [value(one, head.cellIndex, numeric), one]);
    keyed.sort(([a], [b]) => (a === b ? 0 : (a < b) === down ? 1 : -1));
    table.tBodies[0].append(...keyed.map(([, one]) => one));
  });
}

// --- running trainings ------------------------------------------------------------------------

function follow() {
  const news = document.getElementById("news");
  const fresh = new Set();
  const stream = new EventSource(address("live"));
  stream.addEventListener("run", (event) => {
    const told = JSON.parse(event.data);
    const line = document.querySelector(`tr[data-run="${CSS.escape(told.run)}"]`);
    if (!line) {
      fresh.add(told.run);
      const link = document.createElement("a");
      link.href = location.href;
      link.textContent = `${fresh.size} new ${fresh.size === 1 ? "run" : "runs"}: show`;
      news.replaceChildren(link);
      return;
    }
    if (told.status) {
      const badge = line.querySelector(".status");
      badge.textContent = told.status;
      badge.className = `status ${told.status.toLowerCase()}${told.live ? " live" : ""}`;
      if (told.took) line.querySelector('[data-cell="took"]').textContent = told.took;
    }
    for (const [key, facts] of Object.entries(told.metrics ?? {})) {
      const cell = line.querySelector(`[data-cell="${CSS.escape(`metrics.${key}`)}"]`);
      if (cell) cell.textContent = facts.last;
    }
  });
  addEventListener("pagehide", () => stream.close());
}
if (live) follow();
