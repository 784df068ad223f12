// The picture of one service: client sites left, who serves them right, a band for each share.
//
// With many instances the right side shows sites; the table of a selected client site names
// every instance.

import { draw, keep, setAttribute, setText } from "./dom.js";
import { percent, rate } from "./format.js";

const MOST_INSTANCES = 32; // drawn one by one
const ROW = 30;
const GAP = 8;
const MOST_SUBJECTS = 50;

/** Give the nodes and bands of one service, before they have places. */
export function buildFlows(overview, { service, site, width }) {
  const siteOf = new Map(overview.instances.map((item) => [item.name, item.site]));
  const kindOf = new Map(overview.sites.map((item) => [item.name, item.kind]));
  const clients = new Map(overview.sites.map((item) => [item.name, item]));
  const all = (overview.flows[service] ?? []).filter((row) => clients.has(row.from));
  const busy = all.filter((row) => row.rate > 0.005 || clients.get(row.from).envoys > 0 || row.from === site);
  const rows = (busy.length ? busy : all).slice(0, MOST_SUBJECTS);
  const used = new Set(rows.flatMap((row) => row.to.map(([name]) => name)));
  const single = used.size <= MOST_INSTANCES;
  const sources = rows.map((row) => ({ name: row.from, rate: row.rate, kind: kindOf.get(row.from), to: row.to }));
  const sums = new Map();
  for (const source of sources) {
    for (const [name, share] of source.to) {
      const target = single ? name : siteOf.get(name);
      const key = JSON.stringify([source.name, target]);
      const band = sums.get(key) ?? { key, from: source.name, to: target, share: 0, site: siteOf.get(name) };
      band.share += share;
      sums.set(key, band);
    }
  }
  const bands = [...sums.values()];
  const rates = new Map(sources.map((source) => [source.name, source.rate]));
  const most = Math.max(1e-9, ...rates.values());
  for (const band of bands) {
    band.rate = band.share * rates.get(band.from);
    band.size = width === "rate" ? band.rate / most : band.share;
    band.kind = kindOf.get(band.site) ?? "edge";
  }
  return { sources, bands, targets: buildTargets(overview, bands, single, kindOf), single };
}

function buildTargets(overview, bands, single, kindOf) {
  const incoming = new Map();
  for (const band of bands) incoming.set(band.to, (incoming.get(band.to) ?? 0) + band.size);
  const order = new Map(overview.sites.map((item, place) => [item.name, place]));
  const items = single
    ? overview.instances
        .filter((item) => incoming.has(item.name))
        .map((item) => ({ name: item.name, site: item.site, load: loadOf(item), phase: item.phase }))
    : overview.sites
        .filter((item) => incoming.has(item.name))
        .map((item) => ({ name: item.name, site: item.name, load: item.slots ? item.running / item.slots : null, phase: "live" }));
  items.sort((a, b) => order.get(a.site) - order.get(b.site) || (a.name < b.name ? -1 : 1));
  return items.map((item) => ({ ...item, kind: kindOf.get(item.site), size: incoming.get(item.name) }));
}

/** Give what an instance is doing over what it can do at once. */
export function loadOf(item) {
  return item.running === null || !item.slots ? null : item.running / item.slots;
}

/** Draws into `box`; calls `onSelect(site)` when a client site is chosen. */
export class FlowGraph {
  constructor(box, onSelect) {
    this.box = box;
    this.onSelect = onSelect;
    this.svg = draw("svg", { role: "group", "aria-labelledby": "flows-title" });
    this.bands = draw("g", { "aria-hidden": "true" });
    this.targets = draw("g", { "aria-hidden": "true" });
    this.sources = draw("g");
    this.svg.append(this.bands, this.targets, this.sources);
    box.append(this.svg);
    this.svg.addEventListener("click", (event) => this.choose(event));
    this.svg.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        this.choose(event);
      } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        const node = event.target.closest("[data-site]");
        const next = event.key === "ArrowDown" ? node?.nextElementSibling : node?.previousElementSibling;
        if (next) {
          event.preventDefault();
          next.focus();
        }
      }
    });
  }

  choose(event) {
    const node = event.target.closest("[data-site]");
    if (node) this.onSelect(node.dataset.site);
  }

  update(overview, selection, width) {
    const flows = buildFlows(overview, selection);
    const label = Math.min(170, width * 0.3);
    const left = label;
    const right = width - label;
    const scale = flows.sources.length > 24 ? 20 : flows.sources.length > 6 ? ROW : 44;
    let y = 4;
    const places = new Map();
    for (const source of flows.sources) {
      const size = Math.max(0, ...flows.bands.filter((b) => b.from === source.name).map((b) => b.size));
      const whole = flows.bands.filter((b) => b.from === source.name).reduce((sum, b) => sum + b.size, 0);
      source.height = Math.max(2, whole * scale * 0.8);
      source.y = y + (scale - source.height) / 2;
      source.middle = y + scale / 2;
      source.widest = size;
      places.set(source.name, source);
      y += scale + GAP;
    }
    const leftHeight = y;
    const incoming = flows.targets.map((target) => Math.max(scale * 0.8, target.size * scale * 0.8));
    const needed = incoming.reduce((sum, height) => sum + height + GAP, 0);
    const height = Math.max(leftHeight, needed + 8, 120);
    const spare = flows.targets.length ? (height - 8 - needed) / flows.targets.length : 0;
    y = 4;
    flows.targets.forEach((target, place) => {
      target.y = y + spare / 2;
      target.height = incoming[place];
      y += incoming[place] + GAP + spare;
    });
    const offset = Math.max(0, (height - leftHeight) / 2);
    for (const source of flows.sources) {
      source.y += offset;
      source.middle += offset;
    }
    this.place(flows, { left, right, width, height, scale, selected: selection.site, label });
    return flows;
  }

  place(flows, { left, right, width, height, scale, selected, label }) {
    setAttribute(this.svg, "viewBox", `0 0 ${width} ${Math.ceil(height)}`);
    setAttribute(this.svg, "height", Math.ceil(height));
    const letters = Math.floor(label / 7.2);
    const from = new Map(flows.sources.map((source) => [source.name, source.y]));
    const into = new Map(flows.targets.map((target) => [target.name, target.y + (target.height - target.size * scale * 0.8) / 2]));
    const order = new Map(flows.targets.map((target, place) => [target.name, place]));
    const bands = flows.bands.sort((a, b) => order.get(a.to) - order.get(b.to));
    for (const band of bands) {
      const thick = Math.max(0.8, band.size * scale * 0.8);
      const a = from.get(band.from);
      const b = into.get(band.to);
      const middle = (left + right) / 2;
      band.path =
        `M${left + 8} ${f(a)}C${f(middle)} ${f(a)} ${f(middle)} ${f(b)} ${right - 8} ${f(b)}` +
        `V${f(b + thick)}C${f(middle)} ${f(b + thick)} ${f(middle)} ${f(a + thick)} ${left + 8} ${f(a + thick)}Z`;
      from.set(band.from, a + band.size * scale * 0.8);
      into.set(band.to, b + band.size * scale * 0.8);
    }
    keep(
      this.bands,
      bands,
      (band) => band.key,
      () => draw("path", {}, draw("title")),
      (path, band) => {
        setAttribute(path, "d", band.path);
        const state = selected ? (band.from === selected ? " chosen" : " faint") : "";
        setAttribute(path, "class", `band ${band.kind}${state}`);
        setText(path.firstChild, `${band.from} to ${band.to}: ${percent(band.share, 1)}, ${rate(band.rate)}/s`);
      },
    );
    keep(
      this.targets,
      flows.targets,
      (target) => target.name,
      () => draw("g", {}, draw("rect", { width: 8, rx: 2 }), draw("text"), draw("rect", { class: "track", height: 4, rx: 2 }), draw("rect", { height: 4, rx: 2 })),
      (group, target) => {
        const [bar, text, track, load] = group.children;
        const middle = target.y + target.height / 2;
        box(bar, right - 8, target.y, target.height);
        setAttribute(bar, "class", `node ${target.kind}`);
        setAttribute(text, "x", right + 8);
        setAttribute(text, "y", f(middle - 1));
        setAttribute(text, "class", target.phase === "live" ? "name" : "name troubled");
        setText(text, shorten(target.name, letters));
        const long = Math.min(90, label - 16);
        setAttribute(track, "x", right + 8);
        setAttribute(track, "y", f(middle + 4));
        setAttribute(track, "width", long);
        setAttribute(load, "x", right + 8);
        setAttribute(load, "y", f(middle + 4));
        setAttribute(load, "width", f(long * Math.min(1, target.load ?? 0)));
        setAttribute(load, "class", `fill ${(target.load ?? 0) > 0.9 ? "high" : ""}`);
      },
    );
    keep(
      this.sources,
      flows.sources,
      (source) => source.name,
      (source) => draw("g", { role: "button", tabindex: "0", "data-site": source.name }, draw("rect", { class: "hit" }), draw("rect", { width: 8, rx: 2 }), draw("text", { "text-anchor": "end" }), draw("text", { "text-anchor": "end", class: "small" })),
      (group, source) => {
        const [hit, bar, text, small] = group.children;
        const chosen = source.name === selected;
        setAttribute(group, "aria-pressed", chosen);
        setAttribute(group, "aria-description", describe(source));
        setAttribute(hit, "x", 0);
        setAttribute(hit, "y", f(source.middle - scale / 2 - 2));
        setAttribute(hit, "width", left + 8);
        setAttribute(hit, "height", scale + 4);
        box(bar, left, source.y, source.height);
        setAttribute(bar, "class", `node ${source.kind}`);
        setAttribute(text, "x", left - 8);
        setAttribute(text, "y", f(source.middle + (scale > 24 ? -1 : 4)));
        setAttribute(text, "class", chosen ? "name chosen" : "name");
        setText(text, shorten(source.name, letters));
        setAttribute(small, "x", left - 8);
        setAttribute(small, "y", f(source.middle + 12));
        setText(small, scale > 24 ? `${rate(source.rate)}/s` : "");
      },
    );
  }
}

function describe(source) {
  const shares = [...source.to].sort((a, b) => b[1] - a[1]).slice(0, 6);
  const reported = shares.map(([name, share]) => `${percent(share)} to ${name}`).join(", ");
  return `${rate(source.rate)} requests per second: ${reported || "no one serves it"}`;
}

function box(rect, x, y, height) {
  setAttribute(rect, "x", x);
  setAttribute(rect, "y", f(y));
  setAttribute(rect, "height", f(Math.max(2, height)));
}

function shorten(text, letters) {
  return text.length > letters ? `${text.slice(0, letters - 1)}…` : text;
}

function f(number) {
  return number.toFixed(1);
}
