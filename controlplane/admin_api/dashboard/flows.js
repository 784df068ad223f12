// The picture of one service: client sites left, who serves them right, a band for each share.
//
// What would be too many to read is bundled: client sites by region, instances by site or region.
// A bundle opens when it is chosen; a chosen client site stands alone, with its own instances.

import { draw, keep, setAttribute, setText } from "./dom.js";
import { count, percent, rate } from "./format.js";

const MOST_INSTANCES = 32; // drawn one by one
const MOST_SITES = 16; // drawn one by one, on each side
const ROW = 30;
const GAP = 8;

/** Give the nodes and bands of one service, before they have places. */
export function buildFlows(overview, { service, site, group, width }) {
  const sites = new Map(overview.sites.map((item) => [item.name, item]));
  const siteOf = new Map(overview.instances.map((item) => [item.name, item.site]));
  const all = (overview.flows[service] ?? []).filter((row) => sites.has(row.from));
  const busy = all.filter((row) => row.rate > 0.005 || sites.get(row.from).envoys > 0 || row.from === site);
  const many = all.length > MOST_SITES;
  const rows = many && site ? all.filter((row) => row.from === site) : busy.length ? busy : all;
  const sources = bundleSources(rows, sites, group);
  const used = new Set(sources.flatMap((source) => source.to.map(([name]) => name)));
  const usedSites = new Set([...used].map((name) => siteOf.get(name)));
  const level = used.size <= MOST_INSTANCES ? "instances" : usedSites.size <= MOST_SITES ? "sites" : "regions";
  const regionOf = regions([...usedSites].map((name) => sites.get(name)).filter(Boolean));
  const targetOf = (name) => (level === "instances" ? name : level === "sites" ? siteOf.get(name) : regionOf.get(siteOf.get(name)));
  const bands = buildBands(sources, targetOf, width);
  const targets = buildTargets(overview, bands, { level, regionOf });
  const kinds = new Map(targets.map((target) => [target.name, target.kind]));
  for (const band of bands) band.kind = kinds.get(band.to) ?? "edge";
  const bundled = sources.some((source) => source.group);
  const words = `From client sites (left) to ${level} (right).${bundled ? " Sites of a region are one; choose it to see them." : ""}`;
  return { sources, bands, targets, words };
}

function buildBands(sources, targetOf, width) {
  const sums = new Map();
  const most = Math.max(1e-9, ...sources.map((source) => source.rate));
  for (const source of sources) {
    for (const [name, share] of source.to) {
      const to = targetOf(name);
      const key = JSON.stringify([source.name, to]);
      const band = sums.get(key) ?? { key, from: source.name, to, share: 0 };
      band.share += share;
      sums.set(key, band);
    }
  }
  for (const band of sums.values()) {
    const source = sources.find((item) => item.name === band.from);
    band.rate = band.share * source.rate;
    band.size = width === "rate" ? band.rate / most : band.share;
  }
  return [...sums.values()];
}

/** Give a node for each client site, or for each region where they are many. */
function bundleSources(rows, sites, open) {
  const single = (row) => ({ name: row.from, rate: row.rate, kind: sites.get(row.from).kind, to: row.to });
  if (rows.length <= MOST_SITES) return rows.map(single);
  const regionOf = regions(rows.map((row) => sites.get(row.from)));
  const bundles = new Map();
  for (const row of rows) {
    const name = regionOf.get(row.from);
    bundles.set(name, [...(bundles.get(name) ?? []), row]);
  }
  return [...bundles].flatMap(([name, members]) => {
    if (members.length === 1) return members.map(single);
    if (name !== open) return [bundle(name, members, sites)];
    const sorted = [...members].sort((a, b) => b.rate - a.rate);
    const rest = sorted.slice(MOST_SITES);
    return [...sorted.slice(0, MOST_SITES).map((row) => ({ ...single(row), member: name })), ...(rest.length ? [bundle(`${name}: others`, rest, sites)] : [])];
  });
}

function bundle(name, members, sites) {
  const whole = members.reduce((sum, row) => sum + row.rate, 0);
  const shares = new Map();
  for (const row of members) {
    const part = whole > 0 ? row.rate / whole : 1 / members.length;
    for (const [instance, share] of row.to) shares.set(instance, (shares.get(instance) ?? 0) + part * share);
  }
  const kinds = new Set(members.map((row) => sites.get(row.from).kind));
  return { name: `${name} (${members.length})`, rate: whole, kind: kinds.size === 1 ? [...kinds][0] : "mixed", to: [...shares], group: name };
}

/** Give each site's region, or its kind where regions say nothing; too many become one. */
function regions(sites) {
  const named = (site) => site.region || site.kind;
  const counts = new Map();
  for (const site of sites) counts.set(named(site), (counts.get(named(site)) ?? 0) + 1);
  const large = new Set([...counts].sort((a, b) => b[1] - a[1]).slice(0, MOST_SITES).map(([name]) => name));
  return new Map(sites.map((site) => [site.name, large.has(named(site)) ? named(site) : "others"]));
}

function buildTargets(overview, bands, { level, regionOf }) {
  const incoming = new Map();
  for (const band of bands) incoming.set(band.to, (incoming.get(band.to) ?? 0) + band.size);
  const order = new Map(overview.sites.map((item, place) => [item.name, place]));
  const kindOf = new Map(overview.sites.map((item) => [item.name, item.kind]));
  let items;
  if (level === "instances") {
    items = overview.instances
      .filter((item) => incoming.has(item.name))
      .map((item) => ({ name: item.name, site: item.site, kind: kindOf.get(item.site), load: loadOf(item), phase: item.phase }));
  } else if (level === "sites") {
    items = overview.sites
      .filter((item) => incoming.has(item.name))
      .map((item) => ({ name: item.name, site: item.name, kind: item.kind, load: item.slots ? item.running / item.slots : null, phase: "live" }));
  } else {
    const groups = new Map();
    for (const site of overview.sites) {
      const name = regionOf.get(site.name);
      if (name) groups.set(name, [...(groups.get(name) ?? []), site]);
    }
    items = [...groups]
      .filter(([name]) => incoming.has(name))
      .map(([name, members]) => {
        const slots = members.reduce((sum, site) => sum + site.slots, 0);
        const running = members.reduce((sum, site) => sum + site.running, 0);
        const kinds = new Set(members.map((site) => site.kind));
        return { name, site: members[0].name, kind: kinds.size === 1 ? members[0].kind : "mixed", load: slots ? running / slots : null, phase: "live", words: count(members.length, "site") };
      });
  }
  items.sort((a, b) => order.get(a.site) - order.get(b.site) || (a.name < b.name ? -1 : 1));
  return items.map((item) => ({ ...item, size: incoming.get(item.name) }));
}

/** Give what an instance is doing over what it can do at once. */
export function loadOf(item) {
  return item.running === null || !item.slots ? null : item.running / item.slots;
}

/** Draws into `box`; calls `onSelect(site)` or `onGroup(region)` when one is chosen. */
export class FlowGraph {
  constructor(box, { onSelect, onGroup }) {
    this.box = box;
    this.onSelect = onSelect;
    this.onGroup = onGroup;
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
    if (!node) return;
    if (node.dataset.group) this.onGroup(node.dataset.group);
    else this.onSelect(node.dataset.site);
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
        setText(text, shorten(target.words ? `${target.name} (${target.words})` : target.name, letters));
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
        setAttribute(group, "data-group", source.group?.replace(/: others$/, "") ?? null);
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
  return `${rate(source.rate)} requests per second: ${reported || "no instance serves it"}`;
}

function box(rect, x, y, height) {
  setAttribute(rect, "x", x);
  setAttribute(rect, "y", f(y));
  setAttribute(rect, "height", f(Math.max(2, height)));
}

function shorten(text, letters) {
  if (text.length <= letters) return text;
  const tail = Math.floor((letters - 1) / 2); // names differ at their end more often than not
  return `${text.slice(0, letters - 1 - tail)}…${text.slice(-tail)}`;
}

function f(number) {
  return number.toFixed(1);
}
