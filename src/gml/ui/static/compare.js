// Runs side by side: curves, parallel coordinates with brushes, a scatter plot.

import { beside } from "./beside.js";
import { Charts, colour, fit, load, short, ticks } from "./chart.js";
import { boxes, surface } from "./plots.js";
import { live } from "./site.js";

function compare(values) {
  const runs = values.runs.map((run) => run.id);
  const shelf = document.getElementById("charts");
  const charts = shelf ? new Charts(shelf, true) : null;
  const hidden = charts ? charts.hidden : new Set();
  const brushes = new Map();
  const theme = () => getComputedStyle(document.documentElement);

  if (charts) {
    load(charts, runs, runs.length > 40 ? 400 : 1000).catch((error) => {
      shelf.textContent = error.message;
    });
    addEventListener("gml-scroll", () => charts.point());
  }

  const columns = [
    ...Object.entries(values.params).map(([key, column]) => axis(`params.${key}`, column)),
    ...Object.entries(values.metrics).map(([key, column]) => axis(`metrics.${key}`, column)),
  ].filter((each) => each.places.some((place) => place !== null));

  // A column of numbers is a scale; one of texts has a place for each text.
  function axis(name, column) {
    const numbers = column.map((value) => (value === null || value === "" ? null : Number(value)));
    const numeric = numbers.every((value) => value === null || Number.isFinite(value));
    if (numeric) {
      const known = numbers.filter((value) => value !== null);
      return { name, numeric, places: numbers, low: Math.min(...known), high: Math.max(...known), texts: [] };
    }
    const texts = [...new Set(column.filter((value) => value !== null))].sort();
    return { name, numeric, places: column.map((value) => (value === null ? null : texts.indexOf(value))), low: 0, high: Math.max(1, texts.length - 1), texts };
  }

  function kept(i) {
    if (hidden.has(runs[i])) return false;
    for (const [at, [low, high]] of brushes) {
      const place = columns[at].places[i];
      if (place === null || place < low || place > high) return false;
    }
    return true;
  }

  // --- parallel coordinates ---------------------------------------------------------------------

  const parallel = document.getElementById("parallel");
  const EDGE = { top: 34, bottom: 18, side: 70 };


  function height(column, value, h) {
    const part = column.high > column.low ? (value - column.low) / (column.high - column.low) : 0.5;
    return EDGE.top + (1 - part) * (h - EDGE.top - EDGE.bottom);
  }

  function drawParallel() {
    if (columns.length < 2) {
      parallel.closest("section").hidden = true;
      return;
    }
    // A wide canvas scrolls: axes keep a distance that their names need.
    parallel.width = 0;
    const wide = Math.max(parallel.parentElement.clientWidth, columns.length * 110);
    parallel.setAttribute("width", String(wide));
    const { pen, height: h } = fitTo(parallel, wide);
    const last = columns.at(-1);
    for (const on of [false, true]) {
      runs.forEach((run, i) => {
        if (kept(i) !== on) return;
        pen.strokeStyle = on ? colour(i) : theme().getPropertyValue("--line");
        pen.globalAlpha = on ? 0.85 : 0.5;
        pen.lineWidth = on ? 1.6 : 1;
        pen.beginPath();
        let down = false;
        columns.forEach((column, at) => {
          const value = column.places[i];
          if (value === null) {
            down = false;
            return;
          }
          const [x, y] = [at1(at, wide), height(column, value, h)];
          if (down) pen.lineTo(x, y);
          else pen.moveTo(x, y);
          down = true;
        });
        pen.stroke();
      });
    }
    pen.globalAlpha = 1;
    pen.fillStyle = theme().getPropertyValue("--fg");
    columns.forEach((column, at) => {
      const x = at1(at, wide);
      pen.strokeStyle = theme().getPropertyValue("--dim");
      pen.lineWidth = 1;
      pen.beginPath();
      pen.moveTo(x, EDGE.top);
      pen.lineTo(x, h - EDGE.bottom);
      pen.stroke();
      pen.textAlign = "center";
      pen.textBaseline = "top";
      const name = column.name.replace(/^(params|metrics)\./, "");
      pen.fillText(name.length > 16 ? `${name.slice(0, 15)}…` : name, x, 2);
      pen.fillStyle = theme().getPropertyValue("--dim");
      const marks = column.numeric ? [column.low, column.high] : column.texts.length < 12 ? column.texts.map((_, i) => i) : [];
      for (const mark of marks) {
        const text = column.numeric ? short(mark) : column.texts[mark];
        pen.textAlign = column === last ? "right" : "left";
        pen.textBaseline = "middle";
        const place = [text.length > 14 ? `${text.slice(0, 13)}…` : text, x + (column === last ? -6 : 6), height(column, mark, h)];
        pen.lineWidth = 4;
        pen.strokeStyle = theme().getPropertyValue("--bg");
        pen.strokeText(...place);
        pen.fillText(...place);
      }
      pen.fillStyle = theme().getPropertyValue("--fg");
      const brush = brushes.get(at);
      if (brush) {
        pen.fillStyle = theme().getPropertyValue("--link");
        pen.globalAlpha = 0.35;
        const [top, bottom] = [height(column, brush[1], h), height(column, brush[0], h)];
        pen.fillRect(x - 6, top, 12, Math.max(3, bottom - top));
        pen.globalAlpha = 1;
        pen.fillStyle = theme().getPropertyValue("--fg");
      }
    });
  }

  function at1(at, wide) {
    return columns.length > 1 ? EDGE.side + (at * (wide - 2 * EDGE.side)) / (columns.length - 1) : wide / 2;
  }

  function fitTo(canvas, wide) {
    const scale = Math.min(2, devicePixelRatio || 1);
    const h = canvas.getBoundingClientRect().height || 350;
    canvas.width = Math.round(wide * scale);
    canvas.height = Math.round(h * scale);
    const pen = canvas.getContext("2d");
    pen.setTransform((canvas.width / wide), 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, wide, h);
    pen.font = '11px system-ui, "DejaVu Sans", sans-serif';
    return { pen, width: wide, height: h };
  }

  let brushing = null;
  function under(event) {
    const shown = parallel.getBoundingClientRect();
    const wide = Math.max(parallel.parentElement.clientWidth, columns.length * 110);
    const x = (event.offsetX * wide) / shown.width;
    let best = -1;
    columns.forEach((_, at) => {
      if (Math.abs(at1(at, wide) - x) < 24 && (best < 0 || Math.abs(at1(at, wide) - x) < Math.abs(at1(best, wide) - x))) best = at;
    });
    if (best < 0) return null;
    const h = shown.height;
    const part = 1 - (event.offsetY - EDGE.top) / (h - EDGE.top - EDGE.bottom);
    const column = columns[best];
    return { at: best, value: column.low + Math.max(0, Math.min(1, part)) * (column.high - column.low) };
  }
  parallel.addEventListener("pointerdown", (event) => {
    const hit = under(event);
    if (!hit) return;
    brushing = { at: hit.at, from: hit.value };
    brushes.delete(hit.at);
    parallel.setPointerCapture(event.pointerId);
    redraw();
  });
  parallel.addEventListener("pointermove", (event) => {
    if (!brushing) return;
    const hit = under({ ...point(event), offsetX: event.offsetX });
    if (!hit || hit.at !== brushing.at) return;
    brushes.set(brushing.at, [brushing.from, hit.value].sort((a, b) => a - b));
    redraw();
  });
  parallel.addEventListener("pointerup", () => {
    brushing = null;
  });
  function point(event) {
    return { offsetX: event.offsetX, offsetY: event.offsetY };
  }

  // --- scatter ----------------------------------------------------------------------------------

  const scatter = document.getElementById("scatter");
  const pick = Object.fromEntries(["x", "y", "c"].map((name) => [name, document.getElementById(`scatter-${name}`)]));
  for (const column of columns) for (const field of Object.values(pick)) field.add(new Option(column.name, column.name));
  const metrics = columns.filter((column) => column.name.startsWith("metrics."));
  if (columns.length) pick.x.value = columns[0].name;
  if (metrics.length) pick.y.value = (metrics.find((m) => m.name !== pick.x.value) ?? metrics[0]).name;
  const filled = document.getElementById("scatter-surface");
  let spots = [];

  function drawScatter() {
    const [x, y, c] = ["x", "y", "c"].map((name) => columns.find((column) => column.name === pick[name].value));
    spots = [];
    if (!x || !y) {
      scatter.closest("section").hidden = true;
      return;
    }
    const { pen, width, height: h } = fit(scatter);
    const pad = { left: 60, right: 16, top: 10, bottom: 34 };
    const wide = (column) => (column.high > column.low ? [column.low, column.high] : [column.low - 0.5, column.high + 0.5]);
    const [[x0, x1], [y0, y1]] = [wide(x), wide(y)];
    const px = (v) => pad.left + ((v - x0) / (x1 - x0)) * (width - pad.left - pad.right);
    const py = (v) => pad.top + (1 - (v - y0) / (y1 - y0)) * (h - pad.top - pad.bottom);
    pen.strokeStyle = theme().getPropertyValue("--line");
    pen.fillStyle = theme().getPropertyValue("--dim");
    const marks = (column, low, high, most) => (column.numeric ? ticks(low, high, most) : column.texts.map((_, i) => i));
    const say = (column, v) => (column.numeric ? short(v) : column.texts[v].slice(0, 14));
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (const t of marks(y, y0, y1, 5)) {
      pen.beginPath();
      pen.moveTo(pad.left, py(t));
      pen.lineTo(width - pad.right, py(t));
      pen.stroke();
      pen.fillText(say(y, t), pad.left - 6, py(t));
    }
    pen.textAlign = "center";
    pen.textBaseline = "top";
    for (const t of marks(x, x0, x1, 6)) pen.fillText(say(x, t), px(t), h - pad.bottom + 6);
    pen.fillText(x.name, width / 2, h - 13);
    const shade = (part) => `hsl(${220 - 200 * part} 70% 50%)`;
    const part = (i) => (c && c.places[i] !== null ? (c.places[i] - c.low) / (c.high - c.low || 1) : null);
    const drawn = runs.map((_, i) => i).filter((i) => x.places[i] !== null && y.places[i] !== null && kept(i));
    const known = drawn.filter((i) => part(i) !== null).map((i) => ({ x: px(x.places[i]), y: py(y.places[i]), part: part(i) }));
    filled.disabled = known.length < 3;
    if (filled.checked && known.length > 2) surface(pen, known, shade, { left: pad.left, top: pad.top, right: width - pad.right, bottom: h - pad.bottom });
    drawn.forEach((i) => {
      pen.fillStyle = part(i) !== null ? shade(part(i)) : colour(i);
      pen.beginPath();
      pen.arc(px(x.places[i]), py(y.places[i]), 5, 0, 7);
      pen.fill();
      spots.push({ i, x: px(x.places[i]), y: py(y.places[i]), text: `${values.runs[i].name}: ${x.name} ${say(x, x.places[i])}, ${y.name} ${say(y, y.places[i])}` });
    });
  }
  scatter.addEventListener("pointermove", (event) => {
    const near = spots.find((spot) => Math.hypot(spot.x - event.offsetX, spot.y - event.offsetY) < 9);
    scatter.nextElementSibling.textContent = near ? near.text : "";
  });
  scatter.addEventListener("click", (event) => {
    const near = spots.find((spot) => Math.hypot(spot.x - event.offsetX, spot.y - event.offsetY) < 9);
    if (near && values.runs[near.i].to) location.assign(values.runs[near.i].to);
  });
  for (const field of [...Object.values(pick), filled]) field.addEventListener("change", drawScatter);

  // --- box ------------------------------------------------------------------------------------

  const box = document.getElementById("box");
  const by = Object.fromEntries(["x", "y"].map((name) => [name, document.getElementById(`box-${name}`)]));
  for (const column of columns) (column.name.startsWith("metrics.") ? by.y : by.x).add(new Option(column.name, column.name));

  function drawBox() {
    const [x, y] = ["x", "y"].map((name) => columns.find((column) => column.name === by[name].value));
    const groups = new Map();
    runs.forEach((_, i) => {
      if (!x || !y || x.places[i] === null || y.places[i] === null || !kept(i)) return;
      const place = x.places[i];
      if (!groups.has(place)) groups.set(place, { name: x.numeric ? short(place) : x.texts[place], values: [] });
      groups.get(place).values.push(y.places[i]);
    });
    box.closest("section").hidden = !x || !y;
    if (!groups.size || groups.size > 60) return;
    const sorted = [...groups].sort(([a], [b]) => a - b).map(([, group]) => group);
    const named = (name) => theme().getPropertyValue(name);
    const { pen, width, height: h } = fit(box);
    boxes(pen, sorted, { width, height: h, title: `${y.name} by ${x.name}`, ink: named("--fg"), dim: named("--dim"), line: named("--line"), fill: named("--c0") });
  }
  for (const field of Object.values(by)) field.addEventListener("change", drawBox);

  function redraw() {
    drawParallel();
    drawScatter();
    drawBox();
  }
  for (const input of document.querySelectorAll("#legend input")) {
    input.addEventListener("change", () => {
      if (input.checked) hidden.delete(input.value);
      else hidden.add(input.value);
      charts?.draw();
      redraw();
    });
  }
  addEventListener("gml-theme", redraw);
  addEventListener("resize", redraw);
  redraw();
}

const inside = JSON.parse(document.getElementById("values").textContent);
const asked = new URLSearchParams(location.search).get("runs");
if (live || inside.runs.length || !asked) compare(inside);
else {
  beside(asked.split(",")).then(compare, (error) => {
    const line = document.createElement("p");
    line.className = "error";
    line.textContent = `These runs cannot be compared: ${error.message}`;
    document.querySelector("h1").after(line);
  });
}
