// Runs side by side where no server puts them there: from what each run's page knows of it.

import { short } from "./chart.js";
import { address, facts } from "./site.js";

const MOST = 200;
const SHOWN = 24;

function element(name, text, parent, kind) {
  const made = document.createElement(name);
  if (text !== null) made.textContent = text;
  if (kind) made.className = kind;
  parent?.append(made);
  return made;
}

function key(at, parent) {
  element("span", null, parent, `key c${at % 10}`);
  parent.append(" ");
}

function differing(runs, part) {
  const names = [...new Set(runs.flatMap((run) => Object.keys(run[part])))].sort();
  const columns = names.map((name) => [name, runs.map((run) => run[part][name] ?? null)]);
  return Object.fromEntries(columns.filter(([, column]) => new Set(column).size > 1));
}

function legend(runs) {
  const list = document.getElementById("legend");
  runs.forEach((run, at) => {
    const label = element("label", null, element("li", null, list));
    const box = element("input", null, label);
    Object.assign(box, { type: "checkbox", checked: true, value: run.id });
    label.append(" ");
    key(at, label);
    element("a", run.name, label).href = address(run.to);
    label.append(" ");
    element("code", run.id.slice(-8), label, "dim");
  });
}

function table(title, columns, runs) {
  if (!Object.keys(columns).length) return;
  const section = element("section", null, document.getElementById("tables"));
  element("h2", title, section).id = `t-${title.toLowerCase()}`;
  section.setAttribute("aria-labelledby", `t-${title.toLowerCase()}`);
  const box = element("div", null, section, "scroll");
  Object.assign(box, { tabIndex: 0, role: "region", ariaLabel: `${title} that differ` });
  const made = element("table", null, box);
  const head = element("tr", null, element("thead", null, made));
  element("th", title.toLowerCase(), head).scope = "col";
  runs.slice(0, SHOWN).forEach((run, at) => {
    const cell = element("th", null, head);
    cell.scope = "col";
    key(at, cell);
    cell.append(run.name);
  });
  const body = element("tbody", null, made);
  for (const [name, column] of Object.entries(columns)) {
    const row = element("tr", null, body);
    element("th", name, row).scope = "row";
    for (const value of column.slice(0, SHOWN)) element("td", value === null ? "" : title === "Metrics" ? short(value) : value, row, title === "Metrics" ? "n" : "");
  }
}

// Returns the runs, params and metrics that differ, as the server would have put them into the page.
export async function beside(ids) {
  const runs = [];
  for (const id of [...new Set(ids)].slice(0, MOST)) runs.push({ id, ...(await facts(id)) });
  const title = `Compare ${runs.length} runs`;
  document.querySelector("h1").textContent = title;
  legend(runs);
  const [params, metrics] = [differing(runs, "params"), differing(runs, "metrics")];
  table("Params", params, runs);
  table("Metrics", metrics, runs);
  return { runs: runs.map((run) => ({ id: run.id, name: run.name, to: address(run.to) })), params, metrics };
}
