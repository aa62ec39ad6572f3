// Box plots of a metric by the values of a param, and the surface behind a scatter plot.

import { short, ticks } from "./chart.js";

function quantile(sorted, part) {
  const place = (sorted.length - 1) * part;
  const low = Math.floor(place);
  return sorted[low] + (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low]) * (place - low);
}

// The five numbers of a box: whiskers reach the last value within one and a half boxes.
export function five(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const [q1, middle, q3] = [0.25, 0.5, 0.75].map((part) => quantile(sorted, part));
  const reach = 1.5 * (q3 - q1);
  return { low: sorted.find((v) => v >= q1 - reach), q1, middle, q3, high: sorted.findLast((v) => v <= q3 + reach) };
}

// groups: [{name, values}], in the order in which they stand.
export function boxes(pen, groups, { width, height, title, ink, dim, line, fill }) {
  const pad = { left: 60, right: 16, top: 10, bottom: 36 };
  const all = groups.flatMap((group) => group.values);
  let [low, high] = [Math.min(...all), Math.max(...all)];
  if (low === high) [low, high] = [low - 0.5, high + 0.5];
  const py = (v) => pad.top + (1 - (v - low) / (high - low)) * (height - pad.top - pad.bottom);
  const step = (width - pad.left - pad.right) / groups.length;
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  for (const t of ticks(low, high, 5)) {
    pen.strokeStyle = line;
    pen.beginPath();
    pen.moveTo(pad.left, py(t));
    pen.lineTo(width - pad.right, py(t));
    pen.stroke();
    pen.fillStyle = dim;
    pen.fillText(short(t), pad.left - 6, py(t));
  }
  pen.textAlign = "center";
  pen.textBaseline = "top";
  groups.forEach((group, at) => {
    const x = pad.left + (at + 0.5) * step;
    const half = Math.min(34, step * 0.35);
    const box = five(group.values);
    pen.strokeStyle = ink;
    pen.fillStyle = fill;
    pen.globalAlpha = 0.3;
    pen.fillRect(x - half, py(box.q3), 2 * half, Math.max(1, py(box.q1) - py(box.q3)));
    pen.globalAlpha = 1;
    pen.strokeRect(x - half, py(box.q3), 2 * half, Math.max(1, py(box.q1) - py(box.q3)));
    pen.beginPath();
    for (const [from, to] of [[box.low, box.q1], [box.q3, box.high]]) {
      pen.moveTo(x, py(from));
      pen.lineTo(x, py(to));
    }
    pen.moveTo(x - half, py(box.middle));
    pen.lineTo(x + half, py(box.middle));
    pen.stroke();
    pen.fillStyle = ink;
    for (const value of group.values) {
      pen.beginPath();
      pen.arc(x, py(value), 2.5, 0, 7);
      pen.fill();
    }
    pen.fillStyle = dim;
    const text = `${group.name} (${group.values.length})`;
    if (step > 40 || at % Math.ceil(40 / step) === 0) pen.fillText(text.length > 18 ? `${text.slice(0, 17)}…` : text, x, height - pad.bottom + 6);
  });
  pen.fillStyle = dim;
  pen.fillText(title, width / 2, height - 14);
}

// What the points suggest for the places between them, in eight steps: near points count more.
export function surface(pen, points, shade, { left, top, right, bottom }) {
  const [columns, rows] = [72, 44];
  const [w, h] = [(right - left) / columns, (bottom - top) / rows];
  const values = points.map((point) => point.part);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  pen.globalAlpha = 0.35;
  for (let i = 0; i < columns; i += 1) {
    for (let j = 0; j < rows; j += 1) {
      const [x, y] = [left + (i + 0.5) * w, top + (j + 0.5) * h];
      let [sum, mass] = [0, 0];
      for (const point of points) {
        const near = 1 / ((point.x - x) ** 2 / (right - left) ** 2 + (point.y - y) ** 2 / (bottom - top) ** 2 + 1e-4);
        sum += near * near * point.part;
        mass += near * near;
      }
      const part = high > low ? (sum / mass - low) / (high - low) : 0.5;
      pen.fillStyle = shade(low + ((Math.min(7, Math.floor(part * 8)) + 0.5) / 8) * (high - low));
      pen.fillRect(left + i * w, top + j * h, w + 0.5, h + 0.5);
    }
  }
  pen.globalAlpha = 1;
}
