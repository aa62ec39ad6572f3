// The table of runs: choosing, keys, completion of queries, and running trainings that move.

import { typing } from "./page.js";

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
  if (ids.length > 1) location.assign(`/compare?runs=${ids.map(encodeURIComponent).join(",")}`);
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

let row = -1;
document.addEventListener("keydown", (event) => {
  if (typing(event) || event.ctrlKey || event.metaKey || event.altKey) return;
  const rows = [...document.querySelectorAll("#runs tr[data-run]")];
  if (event.key === "q") {
    event.preventDefault();
    document.getElementById("query").focus();
  } else if ((event.key === "j" || event.key === "k") && rows.length) {
    row = Math.max(0, Math.min(rows.length - 1, row + (event.key === "j" ? 1 : -1)));
    rows.forEach((each, i) => each.setAttribute("aria-selected", String(i === row)));
    rows[row].scrollIntoView({ block: "nearest" });
  } else if (event.key === "x" && rows[row]) {
    const box = rows[row].querySelector("input");
    box.checked = !box.checked;
    count();
  } else if (event.key === "Enter" && rows[row] && event.target === document.body) {
    location.assign(rows[row].querySelector("a").href);
  } else if (event.key === "c") go();
});

document.getElementById("experiment").addEventListener("change", (event) => event.target.form.submit());
// Empty fields would make addresses that are shared longer, and say nothing.
document.getElementById("filter").addEventListener("submit", (event) => {
  for (const field of event.target.elements) if (field.name && !field.value) field.disabled = true;
});

// --- completion -------------------------------------------------------------------------------

const WORDS = ["and", "or", "not", "in", "like", "ilike", "between", "is null", "is not null"];
const FIXED = ["status", "name", "user", "created", "duration", "experiment", "code.dirty", "code.branch", "code.commit"];
const known = [...JSON.parse(document.getElementById("keys").textContent), ...FIXED, ...WORDS];
const query = document.getElementById("query");
const menu = document.getElementById("completions");
let at = -1;

function word() {
  return /[\w./`-]*$/.exec(query.value.slice(0, query.selectionStart))[0];
}

function close() {
  menu.hidden = true;
  at = -1;
}

function take(text) {
  const typed = word();
  const end = query.selectionStart;
  query.setRangeText(`${text} `, end - typed.length, end, "end");
  close();
  query.focus();
}

query.addEventListener("input", () => {
  const typed = word().toLowerCase();
  const hits = typed.length ? known.filter((key) => key.toLowerCase().includes(typed) && key !== typed).slice(0, 12) : [];
  menu.replaceChildren(
    ...hits.map((hit) => {
      const item = document.createElement("li");
      item.setAttribute("role", "option");
      item.textContent = hit;
      item.addEventListener("mousedown", (event) => {
        event.preventDefault();
        take(hit);
      });
      return item;
    }),
  );
  menu.hidden = hits.length === 0;
  at = -1;
});
query.addEventListener("blur", close);
query.addEventListener("keydown", (event) => {
  if (menu.hidden) return;
  const items = [...menu.children];
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    at = (at + (event.key === "ArrowDown" ? 1 : -1) + items.length) % items.length;
    items.forEach((item, i) => item.setAttribute("aria-selected", String(i === at)));
    items[at].scrollIntoView({ block: "nearest" });
  } else if ((event.key === "Enter" || event.key === "Tab") && at >= 0) take(items[at].textContent);
  else if (event.key === "Escape") close();
  else return;
  event.preventDefault();
});

// --- running trainings ------------------------------------------------------------------------

const news = document.getElementById("news");
const fresh = new Set();
const stream = new EventSource("/live");
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
