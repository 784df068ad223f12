// Where the sites are, and the largest flows of one service between them; where coordinates are known.

import { draw, keep, setAttribute, setText } from "./dom.js";
import { percent, rate } from "./format.js";

const LINES = 60; // flows drawn, the largest
const LABELS = 24; // sites named beside their place; all have a title
const MARGIN = 0.08;

export class SiteMap {
  constructor(section, box, onSelect) {
    this.section = section;
    this.svg = draw("svg", { role: "img", "aria-labelledby": "map-title" });
    this.grid = draw("g", { class: "graticule" });
    this.lines = draw("g");
    this.sites = draw("g");
    this.svg.append(this.grid, this.lines, this.sites);
    box.append(this.svg);
    this.svg.addEventListener("click", (event) => {
      const node = event.target.closest("[data-place]");
      if (node) onSelect(node.dataset.place);
    });
  }

  update(overview, { service, site }, width) {
    const placed = overview.sites.filter((item) => item.coordinates);
    this.section.hidden = !placed.length;
    if (!placed.length || !width) return;
    const frame = fit(placed.map((item) => item.coordinates), width);
    setAttribute(this.svg, "viewBox", `0 0 ${width} ${frame.height}`);
    setAttribute(this.svg, "height", frame.height);
    this.updateGrid(frame, width);
    const at = new Map(placed.map((item) => [item.name, frame.place(item.coordinates)]));
    const home = new Map(overview.instances.map((item) => [item.name, item.site]));
    const kinds = new Map(overview.sites.map((item) => [item.name, item.kind]));
    const sums = new Map();
    const demand = new Map();
    for (const row of overview.flows[service] ?? []) {
      demand.set(row.from, row.rate);
      for (const [instance, share] of row.to) {
        const to = home.get(instance);
        if (!at.has(row.from) || !at.has(to) || to === row.from) continue;
        const key = JSON.stringify([row.from, to]);
        const line = sums.get(key) ?? { key, from: row.from, to, share: 0, rate: 0 };
        line.share += share;
        line.rate += share * row.rate;
        sums.set(key, line);
      }
    }
    const lines = [...sums.values()].filter((line) => !site || line.from === site).sort((a, b) => b.rate - a.rate).slice(0, LINES);
    const most = Math.max(1e-9, ...lines.map((line) => line.rate));
    keep(
      this.lines,
      lines,
      (line) => line.key,
      () => draw("path", {}, draw("title")),
      (path, line) => {
        const [ax, ay] = at.get(line.from);
        const [bx, by] = at.get(line.to);
        setAttribute(path, "d", `M${ax} ${ay}Q${(ax + bx) / 2 - (by - ay) * 0.15} ${(ay + by) / 2 + (bx - ax) * 0.15} ${bx} ${by}`);
        setAttribute(path, "class", `route ${kinds.get(line.to)}`);
        setAttribute(path, "stroke-width", (1 + 5 * (line.rate / most)).toFixed(1));
        setText(path.firstChild, `${line.from} to ${line.to}: ${percent(line.share, 1)}, ${rate(line.rate)}/s`);
      },
    );
    const heaviest = Math.max(1e-9, ...demand.values());
    keep(
      this.sites,
      placed,
      (item) => item.name,
      (item) => draw("g", { "data-place": item.name }, draw("title"), draw("circle"), draw("text", { class: "small" })),
      (group, item) => {
        const [title, circle, text] = group.children;
        const [x, y] = at.get(item.name);
        const dead = item.alarmed;
        setText(title, `${item.name}: ${rate(demand.get(item.name) ?? 0)}/s${item.slots ? `, load ${percent(item.running / item.slots)}` : ""}`);
        setAttribute(circle, "cx", x);
        setAttribute(circle, "cy", y);
        setAttribute(circle, "r", (4 + 8 * Math.sqrt((demand.get(item.name) ?? 0) / heaviest)).toFixed(1));
        setAttribute(circle, "class", `node ${item.kind}${item.name === site ? " chosen" : ""}${dead ? " dead" : ""}`);
        setAttribute(text, "x", x + 14);
        setAttribute(text, "y", y + 4);
        setText(text, placed.length <= LABELS || item.name === site ? item.name : "");
      },
    );
  }

  updateGrid(frame, width) {
    const lines = frame.meridians.map((x) => ({ key: `x${x}`, d: `M${x} 0V${frame.height}` }));
    lines.push(...frame.parallels.map((y) => ({ key: `y${y}`, d: `M0 ${y}H${width}` })));
    keep(this.grid, lines, (line) => line.key, () => draw("path"), (path, line) => setAttribute(path, "d", line.d));
  }
}

/** Fit places into a picture: degrees east as long as they are at the middle latitude. */
function fit(coordinates, width) {
  const north = coordinates.map(([latitude]) => latitude);
  const east = coordinates.map(([, longitude]) => longitude);
  const middle = (Math.min(...north) + Math.max(...north)) / 2;
  const squeeze = Math.max(0.2, Math.cos((middle * Math.PI) / 180));
  const wide = Math.max(2, Math.max(...east) - Math.min(...east)) * squeeze * (1 + 2 * MARGIN);
  const high = Math.max(1, Math.max(...north) - Math.min(...north)) * (1 + 2 * MARGIN);
  const scale = Math.min(width / wide, 420 / high);
  const height = Math.max(180, Math.ceil(high * scale));
  const centre = (Math.min(...east) + Math.max(...east)) / 2;
  const x = (longitude) => Math.round(width / 2 + (longitude - centre) * squeeze * scale);
  const y = (latitude) => Math.round(height / 2 - (latitude - middle) * scale);
  const step = [1, 2, 5, 10, 20, 45].find((degrees) => degrees * scale > 60) ?? 90;
  const lines = Array.from({ length: 361 / step }, (_, n) => -180 + n * step);
  return {
    height,
    place: ([latitude, longitude]) => [x(longitude), y(latitude)],
    meridians: lines.map(x).filter((at) => at > 0 && at < width),
    parallels: lines.filter((degrees) => Math.abs(degrees) <= 90).map(y).filter((at) => at > 0 && at < height),
  };
}
