// What every page has: light and dark, the search palette, copy buttons.

import { search } from "./site.js";

const root = document.documentElement;

// A browser may refuse to keep anything for a page that is a file.
function kept(value) {
  try {
    if (value) localStorage.setItem("gml-theme", value);
    return localStorage.getItem("gml-theme");
  } catch {
    return null;
  }
}
const stored = kept();
if (stored === "dark" || stored === "light") root.dataset.theme = stored;
document.getElementById("theme").addEventListener("click", () => {
  const dark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  kept(root.dataset.theme);
  dispatchEvent(new Event("gml-theme"));
});

export function ago(ms, now = Date.now()) {
  const seconds = Math.max(0, (now - ms) / 1000);
  for (const [unit, name] of [[31536000, "y"], [86400, "d"], [3600, "h"], [60, "min"]]) if (seconds >= unit) return `${Math.floor(seconds / unit)}${name} ago`;
  return `${Math.floor(seconds)}s ago`;
}
function ages() {
  for (const time of document.querySelectorAll("time")) if (time.dateTime) time.textContent = ago(Date.parse(time.dateTime));
}
ages();
setInterval(ages, 30000);

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = "Copied";
  });
}

export function typing(event) {
  return event.target.matches("input:not([type=checkbox]), select, textarea") || event.target.isContentEditable;
}

const palette = document.getElementById("palette");
const input = document.getElementById("palette-input");
const list = document.getElementById("palette-list");
let chosen = 0;
let asked = 0;

function mark(at) {
  const items = [...list.children];
  chosen = Math.max(0, Math.min(items.length - 1, at));
  items.forEach((item, i) => item.setAttribute("aria-selected", String(i === chosen)));
  if (items[chosen]) {
    input.setAttribute("aria-activedescendant", items[chosen].id);
    items[chosen].scrollIntoView({ block: "nearest" });
  }
}

async function find() {
  const mine = ++asked;
  const found = await search(input.value).catch(() => null);
  if (!found || mine !== asked) return;
  list.replaceChildren(
    ...found.map((hit, i) => {
      const item = document.createElement("li");
      item.id = `hit-${i}`;
      item.setAttribute("role", "option");
      item.dataset.to = hit.to;
      const title = document.createElement("span");
      title.textContent = hit.title;
      const note = document.createElement("span");
      note.className = "dim";
      note.textContent = ` ${hit.kind} ${hit.note}`;
      item.append(title, note);
      item.addEventListener("click", () => location.assign(hit.to));
      return item;
    }),
  );
  mark(0);
}

function open() {
  palette.showModal();
  input.value = "";
  find();
}

document.getElementById("search-open")?.addEventListener("click", open);
input.addEventListener("input", find);
input.addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown") mark(chosen + 1);
  else if (event.key === "ArrowUp") mark(chosen - 1);
  else if (event.key === "Enter" && list.children[chosen]) location.assign(list.children[chosen].dataset.to);
  else return;
  event.preventDefault();
});
document.addEventListener("keydown", (event) => {
  if (!document.getElementById("search-open")) return;
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
    event.preventDefault();
    if (!palette.open) open();
  } else if (event.key === "/" && !typing(event) && !palette.open) {
    event.preventDefault();
    open();
  }
});
