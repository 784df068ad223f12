// The tables of sites, instances and overrides: everything the graph says, for every reader.

import { keep, make, setAttribute, setText } from "./dom.js";
import { link } from "./events.js";
import { age, clock, count, DASH, latency, percent, rate, watts } from "./format.js";
import { loadOf } from "./flows.js";
import { explain } from "./glossary.js";

const HEALTHY = new Set(["live", "starting"]);
const BAD = new Set(["expired", "not_ready", "quarantined"]);

function meter() {
  return make("span", { class: "meter" }, make("i"), make("b"));
}

function setMeter(element, share, text) {
  const [fill, words] = element.children;
  const size = `${(Math.min(1, share ?? 0) * 100).toFixed(1)}%`;
  if (fill.style.width !== size) fill.style.width = size;
  setAttribute(fill, "class", share > 0.9 ? "high" : null);
  setText(words, text);
}

/** Show sites; a click or Enter on a name selects it. */
export function updateSites(body, overview, selection, filter, onSelect) {
  const wanted = filter.trim().toLowerCase();
  const sites = overview.sites.filter((site) => !wanted || [site.name, site.kind, site.region].some((text) => text.toLowerCase().includes(wanted)));
  const flows = new Map((overview.flows[selection.service] ?? []).map((row) => [row.from, row]));
  const times = overview.latency[selection.service] ?? {};
  keep(
    body,
    sites,
    (site) => site.name,
    (site) => {
      const button = make("button", { type: "button", text: site.name });
      button.addEventListener("click", () => onSelect(site.name));
      return make("tr", {}, make("th", { scope: "row" }, make("i"), button), make("td", {}, meter()), make("td"), ...Array.from({ length: 5 }, () => make("td", { class: "number" })));
    },
    (row, site) => {
      const [name, load, health, power, envoys, demand, predicted, observed] = row.children;
      setAttribute(name.firstChild, "class", `dot ${site.kind}`);
      setAttribute(name.firstChild, "title", site.kind);
      setAttribute(name.lastChild, "aria-pressed", site.name === selection.site);
      setAttribute(row, "class", site.name === selection.site ? "chosen" : null);
      const share = site.slots ? site.running / site.slots : null;
      const waits = site.waiting ? `, ${site.waiting.toFixed(0)} wait` : "";
      setMeter(load.firstChild, share, share === null ? DASH : `${site.assumed ? "~" : ""}${percent(share)}${waits}`);
      setAttribute(load, "title", site.assumed && share !== null ? "No instance here reports its load: assumed to be idle." : null);
      const [grade, words] = health_(site);
      setAttribute(health, "class", grade);
      setText(health, words);
      const budget = site.power_budget ? ` of ${watts(site.power_budget)}` : "";
      const battery = site.battery === null ? "" : `, ${percent(site.battery)} charged`;
      setText(power, site.power === null && !budget ? DASH : `${watts(site.power)}${budget}${battery}`);
      const troubles = [site.refusing && `${site.refusing} reject`, site.lagging && `${site.lagging} lag`].filter(Boolean);
      setText(envoys, site.envoys ? [site.envoys, ...troubles].join(", ") : DASH);
      setAttribute(envoys, "class", site.refusing ? "number bad" : site.lagging ? "number warn" : "number");
      const flow = flows.get(site.name);
      setText(demand, flow ? `${rate(flow.rate)}/s` : DASH);
      const [guess, seen] = times[site.name] ?? [null, null];
      setText(predicted, latency(guess));
      setText(observed, latency(seen));
    },
  );
}

function health_({ kind, phases }) {
  const parts = Object.entries(phases).sort();
  if (!parts.length) return ["dim", "no instances"];
  // Devices report where they are asked to only; no one need look after one that does not.
  if (kind === "device" && parts.every(([phase]) => phase === "unknown")) return ["dim", "not reporting"];
  if (parts.length === 1 && parts[0][0] === "live") return ["good", `${parts[0][1]} live`];
  const bad = parts.some(([phase]) => BAD.has(phase));
  const healthy = parts.every(([phase]) => HEALTHY.has(phase));
  return [bad ? "bad" : healthy ? "good" : "warn", parts.map(([phase, n]) => `${n} ${phase.replace("_", " ")}`).join(", ")];
}

/** Show up to `most` instances that have `filter` in one of their words; give how many there are. */
export function updateInstances(body, overview, filter, most) {
  const wanted = filter.trim().toLowerCase();
  const items = overview.instances.filter((item) => !wanted || [item.name, item.site, item.model, item.phase].some((text) => text.toLowerCase().includes(wanted)));
  keep(
    body,
    items.slice(0, most),
    (item) => item.name,
    () => make("tr", {}, make("th", { scope: "row" }, make("a")), make("td"), make("td"), make("td"), make("td", {}, meter()), ...Array.from({ length: 4 }, () => make("td", { class: "number" })), make("td", { class: "dim" })),
    (row, item) => {
      const [name, site, model, phase, load, waiting, time, seen, reports, remark] = row.children;
      setText(name.firstChild, item.name);
      setAttribute(name.firstChild, "href", link({ instance: item.name }));
      setText(site, item.site);
      setText(model, item.model);
      setText(phase, item.phase.replace("_", " "));
      setAttribute(phase, "class", item.phase === "live" ? "good" : BAD.has(item.phase) ? "bad" : "warn");
      const share = loadOf(item);
      setMeter(load.firstChild, share, share === null ? DASH : `${item.running.toFixed(0)} of ${item.slots.toFixed(0)}`);
      setText(waiting, item.waiting === null ? DASH : item.waiting.toFixed(0));
      setText(time, latency(item.latency));
      setText(seen, item.age === 0 ? "<5 s" : age(item.age));
      setText(reports, percent(item.confidence));
      setText(remark, item.trust < 1 ? `trusted by ${percent(item.trust)}; ${item.reason}` : item.reason);
    },
  );
  return items.length;
}

/** Show the policies that are tried on one client site. */
export function updateCanaries(section, body, overview) {
  section.hidden = !overview.canaries.length;
  keep(
    body,
    overview.canaries,
    (item) => `${item.service} ${item.from}`,
    () => make("tr", {}, make("th", { scope: "row" }), make("td"), make("td"), ...Array.from({ length: 5 }, () => make("td", { class: "number" }))),
    (row, item) => {
      const [service, from, policy, ...times] = row.children;
      setText(service, item.service);
      setText(from, item.from);
      setText(policy, `${item.policy} instead of ${item.standing}`);
      const seconds = [item.predicted, item.predicted_standing, item.observed, item.predicted_rest, item.observed_rest];
      seconds.forEach((value, place) => setText(times[place], latency(value)));
    },
  );
}

/** Show the operators' overrides. */
export function updateOverrides(section, body, overview) {
  section.hidden = !overview.overrides.length;
  keep(
    body,
    overview.overrides,
    (item) => item.id,
    () => make("tr", {}, make("th", { scope: "row" }), make("td"), make("td"), make("td"), make("td")),
    (row, item) => {
      const [what, why, who, since, ends] = row.children;
      setText(what, item.what);
      setText(why, item.reason || DASH);
      setText(who, item.by || "configuration file");
      setText(since, item.since ? clock(item.since) : DASH);
      setText(ends, item.expires ? `${clock(item.expires)} (in ${age(Math.max(0, item.expires - overview.at))})` : "until removed");
    },
  );
}

/** Show the figures at the top. */
export function updateHeadline(list, overview) {
  const phases = overview.instances.filter((item) => HEALTHY.has(item.phase)).length;
  const envoys = overview.sites.reduce((sum, site) => sum + site.envoys, 0);
  const lagging = overview.sites.reduce((sum, site) => sum + site.lagging, 0);
  const alerts = overview.alerts ?? [];
  const entries = [
    ["plan", overview.plan.held ? "held" : "plan", `${overview.plan.version.slice(0, 8)}${overview.plan.held ? " (held)" : ""}`],
    ["mode", "mode", overview.mode],
    ["sites", "sites", String(overview.sites.length)],
    ["healthy instances", "healthy", `${phases} of ${overview.instances.length}`],
    ["Envoys", "envoys", lagging ? `${envoys}, ${lagging} lag` : String(envoys)],
    ["configuration", "configuration", overview.config.version.slice(0, 8)],
    ["alerts", "alerts", String(alerts.length)],
  ];
  keep(
    list,
    entries,
    ([name]) => name,
    ([name, meaning]) => make("div", {}, explain(make("dt", { text: name }), meaning), name === "alerts" ? make("dd", {}, make("a", { href: link({ page: "alerts" }) })) : make("dd")),
    (element, [name, meaning, text]) => {
      setAttribute(element.firstChild, "data-meaning", meaning);
      if (name === "alerts") {
        setText(element.lastChild.firstChild, text);
        setAttribute(element.lastChild, "class", alerts.some((alert) => alert.level === "bad") ? "bad" : alerts.length ? "warn" : null);
      } else {
        setText(element.lastChild, text);
      }
    },
  );
}

/** Show what needs an operator, each once. */
export function updateBanners(box, overview, past) {
  const banners = [];
  if (past) banners.push(["moment", `Everything here is as it was at ${clock(past.at)}${past.reach ? `; moments are kept back to ${clock(past.reach[0])}` : ""}. “Back to now” follows the fleet again.`]);
  if (overview.frozen) banners.push(["bad", "Every instance is silent: the last plan is kept. See whether their metrics can be reached."]);
  if (overview.mode === "observe") banners.push(["warn", "Observe mode: shares are decided and explained, and the static split is pushed."]);
  for (const fault of overview.config.faults) banners.push(["bad", `The newest configuration is rejected, the last good one serves: ${fault}`]);
  for (const item of overview.refusals) {
    banners.push(["bad", `${item.envoy} at ${item.site || "an unknown site"} rejects ${item.type} ${item.version.slice(0, 8)}: ${item.text}`]);
  }
  if (overview.refusals_left_out) banners.push(["bad", `${count(overview.refusals_left_out, "more rejection")}.`]);
  const notes = new Map();
  for (const item of overview.notes) {
    if (overview.mode === "observe") break;
    const key = `${item.service}: ${item.note}`;
    notes.set(key, [...(notes.get(key) ?? []), item.from]);
  }
  for (const [text, sites] of notes) {
    const who = sites.length > 4 ? count(sites.length, "client site") : sites.join(", ");
    banners.push(["warn", `${text} (from ${who})`]);
  }
  keep(
    box,
    banners.slice(0, 12),
    ([grade, text]) => grade + text,
    ([grade, text]) => make("p", { class: `banner ${grade}`, text }),
    () => {},
  );
}
