// Predicted and observed latency of the selected pair, or of the service from all sites, over the
// last quarter of an hour to a day.

import { draw, make, setAttribute, setText } from "./dom.js";
import { age, latency } from "./format.js";

const LIVE = 900; // seconds of which every overview is kept
const HEIGHT = 190;
const BOTTOM = 22;
const LEFT = 62;

/** Keeps what the page has seen, and what the control plane kept: (service, site) -> points. */
export class History {
  constructor() {
    this.points = new Map();
    this.past = { key: "", points: [] };
    this.last = 0;
  }

  /** Take an answer of /api/v1/history about one pair. */
  fill(service, site, answer) {
    const { predicted, observed } = answer.services[service] ?? { predicted: [], observed: [] };
    const points = answer.at.map((at, index) => [at, predicted[index] ?? null, observed[index] ?? null]);
    this.past = { key: JSON.stringify([service, site]), points };
  }

  add(overview) {
    if (overview.at === this.last) return;
    // The clock was set back: what was seen lies in the future.
    if (overview.at < this.last) this.points.clear();
    this.last = overview.at;
    for (const [service, sites] of Object.entries(overview.latency)) {
      for (const [site, [predicted, observed]] of Object.entries(sites)) this.push(service, site, predicted, observed);
      const rates = overview.rates[service] ?? {};
      this.push(service, "", mean(sites, rates, 0), mean(sites, rates, 1));
    }
  }

  push(service, site, predicted, observed) {
    const key = JSON.stringify([service, site]);
    let points = this.points.get(key);
    if (!points) this.points.set(key, (points = []));
    points.push([this.last, predicted, observed]);
    if (points.length > 2 * LIVE || points[0][0] < this.last - 2 * LIVE) points.splice(0, points.length - LIVE);
  }

  of(service, site, span) {
    const key = JSON.stringify([service, site]);
    const live = (this.points.get(key) ?? []).filter(([at]) => at >= this.last - Math.min(span, LIVE));
    const past = this.past.key === key ? this.past.points : [];
    // Beyond a quarter of an hour a point a second would be too many: only the newest is taken.
    if (span > LIVE) return [...past, ...live.slice(-1)];
    const first = live.length ? live[0][0] : Infinity;
    return [...past.filter(([at]) => at < first && at >= this.last - span), ...live];
  }
}

/** The mean over requests, of the sites where it is known. */
function mean(sites, rates, column) {
  let sum = 0;
  let whole = 0;
  for (const [site, values] of Object.entries(sites)) {
    const rate = rates[site] ?? 0;
    if (values[column] === null) continue;
    sum += rate * values[column];
    whole += rate;
  }
  return whole > 0 ? sum / whole : null;
}

export class LatencyChart {
  constructor(box, onPick) {
    this.onPick = onPick;
    this.words = make("p", { class: "figures" });
    this.svg = draw("svg", { "aria-hidden": "true", height: HEIGHT });
    this.grid = [0, 0.5, 1].map((part) => [part, draw("line", { class: "grid" }), draw("text", { class: "small", "text-anchor": "end" })]);
    this.slo = draw("line", { class: "slo" });
    this.predicted = draw("path", { class: "line predicted" });
    this.observed = draw("path", { class: "line observed" });
    this.cursor = draw("line", { class: "cursor", y1: 0, y2: HEIGHT - BOTTOM });
    this.start = draw("text", { class: "small", x: LEFT, y: HEIGHT - 5 });
    this.end = draw("text", { class: "small", "text-anchor": "end", y: HEIGHT - 5, text: "now" });
    this.svg.append(...this.grid.flatMap(([, line, text]) => [line, text]), this.slo, this.observed, this.predicted, this.cursor, this.start, this.end);
    this.legend = make("p", { class: "legend", "aria-hidden": "true" }, make("span", { class: "key predicted", text: "predicted" }), make("span", { class: "key observed", text: "observed by Envoys" }), make("span", { class: "key slo", text: "promised" }));
    box.append(this.words, this.svg, this.legend);
    // The keyboard picks a moment with the slider at the top.
    this.svg.addEventListener("click", (event) => {
      const { left, width } = this.svg.getBoundingClientRect();
      const at = this.instant?.((event.clientX - left) / width);
      if (at) this.onPick(at);
    });
  }

  update(points, { service, site, slo, at }, width) {
    const newest = points.at(-1);
    const pair = `${service} from ${site || "all sites"}`;
    setText(this.words, newest ? `${pair}: predicted ${latency(newest[1])}, observed ${latency(newest[2])}${slo ? `, promised ${latency(slo)}` : ""}.` : `${pair}: nothing predicted or observed yet.`);
    setAttribute(this.svg, "viewBox", `0 0 ${width} ${HEIGHT}`);
    setAttribute(this.svg, "class", newest ? null : "empty");
    const values = points.flatMap(([, a, b]) => [a, b]).filter((value) => value !== null);
    const high = Math.max(...values, 1e-4);
    const top = nice(slo && slo < 2 * high ? Math.max(high, slo) : high);
    const until = points.length ? newest[0] : 0;
    const since = Math.min(until - 30, points.length ? points[0][0] : 0);
    const x = (instant) => LEFT + ((instant - since) / Math.max(1e-9, until - since)) * (width - LEFT - 8);
    this.instant = (part) => (points.length ? Math.round(Math.min(until, Math.max(since, since + ((part * width - LEFT) / (width - LEFT - 8)) * (until - since)))) : null);
    const cursor = at !== null && at >= since && at <= until ? x(at).toFixed(1) : -10;
    setAttribute(this.cursor, "visibility", cursor < 0 ? "hidden" : null);
    setAttribute(this.cursor, "x1", cursor);
    setAttribute(this.cursor, "x2", cursor);
    const y = (value) => 8 + (1 - value / top) * (HEIGHT - BOTTOM - 8);
    for (const [part, line, text] of this.grid) {
      const height = y(part * top);
      setAttribute(line, "x1", LEFT);
      setAttribute(line, "x2", width - 8);
      setAttribute(line, "y1", height.toFixed(1));
      setAttribute(line, "y2", height.toFixed(1));
      setAttribute(text, "x", LEFT - 8);
      setAttribute(text, "y", (height + 4).toFixed(1));
      setText(text, latency(part * top).replace(".00", ""));
    }
    const promised = Boolean(slo) && slo <= top;
    const drawn = promised ? y(slo).toFixed(1) : -10;
    this.legend.lastChild.hidden = !promised; // above the picture it is in words only
    setAttribute(this.slo, "x1", LEFT);
    setAttribute(this.slo, "x2", width - 8);
    setAttribute(this.slo, "y1", drawn);
    setAttribute(this.slo, "y2", drawn);
    setAttribute(this.predicted, "d", trace(points, 1, x, y));
    setAttribute(this.observed, "d", trace(points, 2, x, y));
    setAttribute(this.end, "x", width - 8);
    setText(this.start, points.length ? `${age(until - since)} ago` : "");
  }
}

function trace(points, column, x, y) {
  let path = "";
  let pen = "M";
  for (const point of points) {
    if (point[column] === null) {
      pen = "M";
    } else {
      path += `${pen}${x(point[0]).toFixed(1)} ${y(point[column]).toFixed(1)}`;
      pen = "L";
    }
  }
  return path;
}

function nice(value) {
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 5, 8, 10].map((n) => n * unit).find((n) => n >= value * 1.02) ?? 10 * unit;
}
