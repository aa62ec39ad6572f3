// Line charts on canvas: a hundred curves of a thousand points each are drawn in some milliseconds.
// All charts of a page share the place under the pointer and the zoom of the x axis.

import { curves } from "./site.js";

const DPR = () => Math.min(2, devicePixelRatio || 1);
const PAD = { left: 52, right: 10, top: 8, bottom: 22 };

export function colour(at) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--c${at % 10}`).trim();
}

function token(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export function short(value) {
  if (!Number.isFinite(value)) return "";
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e6 || size < 1e-3)) return value.toExponential(2).replace(/\.?0+e/, "e");
  return String(Number(value.toPrecision(5)));
}

export function span(seconds) {
  if (seconds < 60) return `${short(seconds)} s`;
  if (seconds < 3600) return `${short(seconds / 60)} min`;
  return `${short(seconds / 3600)} h`;
}

export function ticks(low, high, most = 5) {
  if (!(high > low)) return [low];
  const raw = (high - low) / most;
  const base = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * base).find((s) => s >= raw) ?? raw;
  const out = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9 && out.length < 50; value += step) out.push(Number(value.toPrecision(12)));
  return out;
}

export function fit(canvas) {
  const box = canvas.getBoundingClientRect();
  const scale = DPR();
  const [width, height] = [Math.max(50, box.width), Math.max(50, box.height)];
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = '11px system-ui, "DejaVu Sans", sans-serif';
  return { pen, width, height };
}

// Exponential smoothing without the pull of the first value; gaps stay gaps.
export function smoothed(values, weight) {
  if (!weight) return values;
  let [mean, mass] = [0, 0];
  return values.map((value) => {
    if (value === null) return null;
    mean = mean * weight + (1 - weight) * value;
    mass = mass * weight + (1 - weight);
    return mean / mass;
  });
}

export class Charts {
  constructor(container, tools) {
    this.container = container;
    this.charts = new Map();
    this.hidden = new Set();
    this.order = [];
    this.runs = {};
    this.options = { x: "step", logX: false, logY: false, smooth: 0 };
    this.zoom = null;
    this.at = null;
    this.pending = false;
    for (const figure of container.querySelectorAll("figure")) this.add(figure);
    this.tools(tools);
    addEventListener("gml-theme", () => this.draw());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(container);
  }

  ensure(key) {
    if (this.charts.has(key)) return;
    const figure = document.createElement("figure");
    figure.className = "chart";
    figure.dataset.key = key;
    const caption = document.createElement("figcaption");
    caption.textContent = key;
    const canvas = document.createElement("canvas");
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Curve of ${key}`);
    figure.append(caption, canvas, document.createElement("output"));
    this.container.append(figure);
    this.add(figure);
  }

  add(figure) {
    const chart = { figure, canvas: figure.querySelector("canvas"), output: figure.querySelector("output"), curves: {}, view: null };
    this.charts.set(figure.dataset.key, chart);
    const { canvas } = chart;
    let start = null;
    canvas.addEventListener("pointermove", (event) => {
      const x = this.valueAt(chart, event.offsetX);
      if (x === null) return;
      this.at = x;
      this.drag = start === null ? null : { chart, from: start, to: event.offsetX };
      this.point();
    });
    canvas.addEventListener("pointerdown", (event) => {
      start = event.offsetX;
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointerup", (event) => {
      if (start !== null && Math.abs(event.offsetX - start) > 6) {
        const ends = [this.valueAt(chart, start), this.valueAt(chart, event.offsetX)].sort((a, b) => a - b);
        this.setZoom(ends);
      }
      start = null;
      this.drag = null;
      this.draw();
    });
    canvas.addEventListener("pointerleave", () => {
      if (start === null) {
        this.at = null;
        this.point();
      }
    });
    canvas.addEventListener("dblclick", () => this.setZoom(null));
    canvas.addEventListener("keydown", (event) => {
      if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
      event.preventDefault();
      const xs = [...new Set(this.visible(chart).flatMap(({ xs }) => xs))].sort((a, b) => a - b);
      let i = this.at === null ? -1 : xs.findIndex((x) => x >= this.at);
      i = Math.max(0, Math.min(xs.length - 1, i + (event.key === "ArrowRight" ? 1 : -1)));
      this.at = xs[i] ?? null;
      this.point();
    });
  }

  tools(box) {
    if (!box) return;
    const change = (name, read) => {
      const field = document.getElementById(name);
      field.addEventListener("input", () => {
        Object.assign(this.options, read(field));
        this.setZoom(name === "x-axis" || name === "log-x" ? null : this.zoom);
      });
    };
    change("x-axis", (field) => ({ x: field.value }));
    change("log-x", (field) => ({ logX: field.checked }));
    change("log-y", (field) => ({ logY: field.checked }));
    change("smooth", (field) => ({ smooth: Number(field.value) }));
    document.getElementById("zoom-out").addEventListener("click", () => this.setZoom(null));
    document.getElementById("find-chart").addEventListener("input", (event) => {
      const typed = event.target.value.toLowerCase();
      for (const [key, chart] of this.charts) chart.figure.hidden = !key.toLowerCase().includes(typed);
      this.draw();
    });
  }

  setZoom(zoom) {
    this.zoom = zoom;
    const button = document.getElementById("zoom-out");
    if (button) button.disabled = zoom === null;
    this.draw();
  }

  set(key, run, curve) {
    this.ensure(key);
    const chart = this.charts.get(key);
    if (curve) chart.curves[run] = curve;
    if (!this.order.includes(run)) this.order.push(run);
  }

  draw() {
    for (const chart of this.charts.values()) chart.still = null;
    this.point();
  }

  // Draws only what the pointer shows again: the curves below it are kept as a picture.
  point() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      for (const chart of this.charts.values()) {
        if (chart.figure.hidden || !onScreen(chart.canvas)) continue;
        if (!chart.still) this.drawOne(chart);
        this.drawPointer(chart);
      }
    });
  }

  visible(chart) {
    const { x, logX, smooth } = this.options;
    const out = [];
    for (const [run, curve] of Object.entries(chart.curves)) {
      if (this.hidden.has(run)) continue;
      const start = this.runs[run]?.start ?? curve.time[0];
      let xs = curve.step;
      if (x === "relative") xs = curve.time.map((t) => (t - start) / 1000);
      if (x === "time") xs = curve.time.map((t) => t / 1000);
      out.push({ run, xs, raw: curve.value, low: curve.low, high: curve.high, ys: smoothed(curve.value, smooth), place: this.order.indexOf(run) });
    }
    if (logX) for (const each of out) each.xs = each.xs.map((v) => (v > 0 ? v : NaN));
    return out;
  }

  drawOne(chart) {
    const { pen, width, height } = fit(chart.canvas);
    const curves = this.visible(chart);
    const { logX, logY, smooth, x: axis } = this.options;
    let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
    const ok = (value) => value !== null && Number.isFinite(value) && (!logY || value > 0);
    for (const { xs, raw, ys, low, high } of curves) {
      for (let i = 0; i < xs.length; i += 1) {
        if (!Number.isFinite(xs[i]) || (this.zoom && (xs[i] < this.zoom[0] || xs[i] > this.zoom[1]))) continue;
        x0 = Math.min(x0, xs[i]);
        x1 = Math.max(x1, xs[i]);
        const value = smooth ? ys[i] : raw[i];
        if (ok(value)) {
          y0 = Math.min(y0, value);
          y1 = Math.max(y1, value);
        }
        if (low && ok(low[i])) y0 = Math.min(y0, low[i]);
        if (low && ok(high[i])) y1 = Math.max(y1, high[i]);
      }
    }
    if (this.zoom) [x0, x1] = this.zoom;
    chart.view = null;
    chart.still = { curves: [], picture: null };
    if (!(x1 >= x0)) return;
    if (!(y1 >= y0)) [y0, y1] = [0, 1];
    if (x0 === x1) [x0, x1] = [x0 - 0.5, x1 + 0.5];
    if (y0 === y1) [y0, y1] = logY ? [y0 / 2, y1 * 2] : [y0 - Math.abs(y0 || 1) / 2, y1 + Math.abs(y1 || 1) / 2];
    const fx = logX ? Math.log10 : (v) => v;
    const fy = logY ? Math.log10 : (v) => v;
    const [a, b, c, d] = [fx(x0), fx(x1), fy(y0), fy(y1)];
    const w = width - PAD.left - PAD.right;
    const h = height - PAD.top - PAD.bottom;
    const px = (v) => PAD.left + ((fx(v) - a) / (b - a)) * w;
    const py = (v) => PAD.top + h - ((fy(v) - c) / (d - c)) * h;
    chart.view = { a, b, w, logX, px, py };
    this.axes(pen, { width, height, w, h, a, b, c, d, logX, logY, axis, px, py });
    pen.save();
    pen.beginPath();
    pen.rect(PAD.left, PAD.top - 2, w, h + 4);
    pen.clip();
    pen.lineJoin = "round";
    for (const { xs, raw, ys, low, high, place } of curves) {
      pen.strokeStyle = colour(place);
      if (low) {
        pen.fillStyle = colour(place);
        pen.globalAlpha = 0.22;
        between(pen, xs, low, high, px, py, ok);
      }
      if (smooth) {
        pen.globalAlpha = 0.25;
        trace(pen, xs, raw, px, py, ok);
      }
      pen.globalAlpha = 0.95;
      pen.lineWidth = 1.5;
      trace(pen, xs, smooth ? ys : raw, px, py, ok);
    }
    pen.globalAlpha = 1;
    pen.restore();
    const picture = document.createElement("canvas");
    [picture.width, picture.height] = [chart.canvas.width, chart.canvas.height];
    picture.getContext("2d").drawImage(chart.canvas, 0, 0);
    chart.still = { curves, picture };
  }

  drawPointer(chart) {
    const { curves, picture } = chart.still;
    if (!picture) return;
    const pen = chart.canvas.getContext("2d");
    pen.save();
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, picture.width, picture.height);
    pen.drawImage(picture, 0, 0);
    pen.restore();
    const h = chart.canvas.height / DPR() - PAD.top - PAD.bottom;
    if (this.drag?.chart === chart) {
      pen.fillStyle = token("--link");
      pen.globalAlpha = 0.15;
      pen.fillRect(Math.min(this.drag.from, this.drag.to), PAD.top, Math.abs(this.drag.to - this.drag.from), h);
      pen.globalAlpha = 1;
    }
    this.hover(chart, pen, curves, h);
  }

  axes(pen, v) {
    pen.fillStyle = token("--dim");
    pen.strokeStyle = token("--line");
    pen.lineWidth = 1;
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (const t of ticks(v.c, v.d, 4)) {
      const y = PAD.top + v.h - ((t - v.c) / (v.d - v.c)) * v.h;
      pen.beginPath();
      pen.moveTo(PAD.left, y);
      pen.lineTo(PAD.left + v.w, y);
      pen.stroke();
      pen.fillText(short(v.logY ? 10 ** t : t), PAD.left - 6, y);
    }
    pen.textAlign = "center";
    pen.textBaseline = "top";
    for (const t of ticks(v.a, v.b, Math.max(2, Math.floor(v.w / 90)))) {
      const x = PAD.left + ((t - v.a) / (v.b - v.a)) * v.w;
      const value = v.logX ? 10 ** t : t;
      const text = v.axis === "time" ? new Date(value * 1000).toLocaleTimeString() : v.axis === "relative" ? span(value) : short(value);
      pen.fillText(text, x, PAD.top + v.h + 6);
    }
  }

  hover(chart, pen, curves, h) {
    if (this.at === null || !chart.view) {
      chart.output.textContent = "";
      return;
    }
    const x = chart.view.px(this.at);
    if (x < PAD.left - 1 || x > PAD.left + chart.view.w + 1) {
      chart.output.textContent = "";
      return;
    }
    pen.strokeStyle = token("--dim");
    pen.lineWidth = 1;
    pen.beginPath();
    pen.moveTo(x, PAD.top);
    pen.lineTo(x, PAD.top + h);
    pen.stroke();
    const near = [];
    for (const { run, xs, raw, low, high, place } of curves) {
      const i = nearest(xs, this.at);
      if (i < 0 || raw[i] === null) continue;
      near.push({ name: this.runs[run]?.name ?? run, x: xs[i], value: raw[i], band: low ? ` (${short(low[i])} to ${short(high[i])})` : "" });
      pen.fillStyle = colour(place);
      pen.beginPath();
      pen.arc(chart.view.px(xs[i]), chart.view.py(raw[i]), 3, 0, 7);
      pen.fill();
    }
    if (!near.length) return;
    near.sort((p, q) => q.value - p.value);
    const axis = this.options.x;
    const where = axis === "step" ? `step ${short(near[0].x)}` : axis === "relative" ? span(near[0].x) : new Date(near[0].x * 1000).toLocaleString();
    const told = near.slice(0, 6).map((n) => (curves.length > 1 ? `${n.name} ${short(n.value)}${n.band}` : `${short(n.value)}${n.band}`));
    chart.output.textContent = `${where}: ${told.join(" · ")}${near.length > 6 ? ` · ${near.length - 6} more` : ""}`;
  }

  valueAt(chart, offset) {
    if (!chart.view) return null;
    const { a, b, w, logX } = chart.view;
    const value = a + ((offset - PAD.left) / w) * (b - a);
    return logX ? 10 ** value : value;
  }
}

function onScreen(canvas) {
  const box = canvas.getBoundingClientRect();
  return box.bottom > -300 && box.top < innerHeight + 300;
}

function nearest(xs, x) {
  let [low, high] = [0, xs.length - 1];
  if (high < 0) return -1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (xs[middle] < x) low = middle + 1;
    else high = middle;
  }
  return low > 0 && x - xs[low - 1] < xs[low] - x ? low - 1 : low;
}

function trace(pen, xs, ys, px, py, ok) {
  pen.beginPath();
  let down = false;
  let last = -1;
  for (let i = 0; i < xs.length; i += 1) {
    if (!ok(ys[i]) || !Number.isFinite(xs[i])) {
      if (down && last === i - 1 && (i < 2 || !ok(ys[i - 2]))) dot(pen, px(xs[last]), py(ys[last]));
      down = false;
      continue;
    }
    if (down) pen.lineTo(px(xs[i]), py(ys[i]));
    else pen.moveTo(px(xs[i]), py(ys[i]));
    down = true;
    last = i;
  }
  if (xs.length === 1 && last === 0) dot(pen, px(xs[0]), py(ys[0]));
  pen.stroke();
}

// The area from the least to the greatest of each stretch of a long curve.
function between(pen, xs, low, high, px, py, ok) {
  let from = 0;
  for (let i = 0; i <= xs.length; i += 1) {
    if (i < xs.length && ok(low[i]) && ok(high[i]) && Number.isFinite(xs[i])) continue;
    if (i > from) {
      pen.beginPath();
      for (let at = from; at < i; at += 1) pen.lineTo(px(xs[at]), py(high[at]));
      for (let at = i - 1; at >= from; at -= 1) pen.lineTo(px(xs[at]), py(low[at]));
      pen.fill();
    }
    from = i + 1;
  }
}

function dot(pen, x, y) {
  pen.moveTo(x + 2, y);
  pen.arc(x, y, 2, 0, 7);
}

export async function load(charts, runs, points = 1000) {
  const told = await curves(runs, points);
  Object.assign(charts.runs, told.runs);
  for (const run of runs) if (!charts.order.includes(run)) charts.order.push(run);
  for (const [key, byRun] of Object.entries(told.curves).sort(([a], [b]) => a.startsWith("system/") - b.startsWith("system/") || (a < b ? -1 : 1))) for (const [run, curve] of Object.entries(byRun)) charts.set(key, run, curve);
  charts.draw();
}
addEventListener("scroll", () => dispatchEvent(new Event("gml-scroll")), { passive: true });
