// What differs between pages of a server, pages in a folder and a page in one file: where data comes from.

const page = document.documentElement.dataset;
export const live = page.site === "live";

export function address(path) {
  return page.root + path;
}

const wanted = new Map();
// Files are read as scripts: from file:// nothing else may be read.
function script(path) {
  if (!wanted.has(path)) {
    wanted.set(
      path,
      new Promise((done, failed) => {
        const tag = document.createElement("script");
        tag.src = address(path);
        tag.addEventListener("load", done);
        tag.addEventListener("error", () => failed(new Error(`${path} is not there`)));
        document.head.append(tag);
      }),
    );
  }
  return wanted.get(path);
}

async function stored(path, key) {
  const inside = document.getElementById("site-data");
  if (inside) return JSON.parse(inside.textContent)[key];
  await script(path);
  return globalThis.gmlData[key];
}

// What is known of a run: name, address, start, params, last metrics, curves.
export function facts(name) {
  return stored(`runs/${name}.js`, name);
}

async function told(path) {
  const answer = await fetch(address(path));
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error ?? answer.statusText);
  return found;
}

// {runs: {id: {name, start}}, curves: {metric: {id: {step, time, value}}}}
export async function curves(runs, points) {
  if (live) return told(`data/curves?${new URLSearchParams({ runs: runs.join(","), points: String(points) })}`);
  const out = { runs: {}, curves: {} };
  for (const id of runs) {
    const known = await facts(id);
    out.runs[id] = { name: known.name, start: known.start };
    // Times are stored from the start on: fewer bytes.
    for (const [key, curve] of Object.entries(known.curves)) (out.curves[key] ??= {})[id] = { ...curve, time: curve.time.map((t) => t + known.start) };
  }
  return out;
}

export async function search(text) {
  if (live) return (await told(`data/search?q=${encodeURIComponent(text)}`)).found;
  const known = await stored("search.js", "search");
  const typed = text.trim().toLowerCase();
  const hits = [];
  for (const [kind, title, note, to, id] of known) {
    if (typed ? title.toLowerCase().includes(typed) || id.includes(typed) : kind === "page") hits.push({ kind, title, note, to: address(to) });
    if (hits.length === 12) break;
  }
  return hits;
}
