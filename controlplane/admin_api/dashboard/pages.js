// The page of one instance, one Envoy, the agents or the alerts, above the rest.

import { draw, keep, make, setAttribute, setText } from "./dom.js";
import { link } from "./events.js";
import { age, clock, count, DASH, dated, latency, percent, rate } from "./format.js";
import { explain } from "./glossary.js";

const MOST_ROWS = 50; // pairs listed of those that send to an instance
const PERIOD = 1900; // milliseconds between two looks at what the overview does not say

export class DetailPage {
  constructor(section, title, body) {
    this.section = section;
    this.title = title;
    this.body = body;
    this.wanted = "";
    this.askedAt = 0;
  }

  /** Show what the address names, of the moment that the overview is of. */
  update(selection, overview, live) {
    const { instance, envoy, page } = selection;
    const wanted = instance ? `instance ${instance}` : envoy ? `Envoy ${envoy}` : page;
    this.section.hidden = !wanted;
    if (!wanted) {
      this.wanted = "";
      return;
    }
    if (wanted !== this.wanted) {
      this.wanted = wanted;
      this.askedAt = 0;
      keep(this.body, [], () => "", () => null, () => {});
      setText(this.title, wanted[0].toUpperCase() + wanted.slice(1));
    }
    if (page === "alerts" && !instance && !envoy) return this.show(alertsPage(overview.alerts ?? [], overview.at));
    if (!live && instance) return this.show(pastInstance(overview, instance));
    if (performance.now() - this.askedAt < PERIOD) return;
    this.askedAt = performance.now();
    this.ask(wanted, instance ? instanceOf(instance) : envoy ? envoyOf(envoy) : agents());
  }

  async ask(wanted, answer) {
    try {
      const parts = await answer;
      if (this.wanted === wanted) this.show(parts);
    } catch {
      this.askedAt = 0; // the stream says that the connection is lost
    }
  }

  show(parts) {
    // Rows that stay keep their place and the focus.
    keep(this.body, parts, (part) => part.key, (part) => part.make(), (element, part) => part.update?.(element));
  }
}

async function get(path) {
  const answer = await fetch(path);
  return [answer.ok, await answer.json()];
}

async function instanceOf(name) {
  const query = new URLSearchParams({ name });
  const [ok, found] = await get(`/api/v1/instance?${query}`);
  if (!ok) return [paragraph("error", found.error)];
  const [, past] = await get(`/api/v1/history?${new URLSearchParams({ instance: name, since: "15m" })}`);
  const why = found.reason ? `: ${found.reason}` : "";
  const awaited = found.awaited ? ` Awaited: ${found.awaited}.` : "";
  const missing = found.missing.length ? ` It does not report ${found.missing.join(", ")}.` : "";
  const used = found.senders.filter((row) => row.priority === 0);
  const falls = found.senders.length - used.length;
  const refuted = found.disbelieved.length ? ` Not believed: ${found.disbelieved.join(", ")}.` : "";
  return [
    paragraph("state", `${found.phase.replace("_", " ")}${why}, for ${age(found.since)}.${awaited}${missing}${refuted}`),
    paragraph("where", `${found.engine} at ${found.address}, site ${found.site}, ${found.models.join(", ")}; its reports count ${percent(found.confidence)}, trusted ${percent(found.trust)}.`),
    spark(past.instance ?? { running: [], waiting: [] }, past.at ?? []),
    table("senders", "Who sends to it", ["Service", "From", ["Share", "share"], ["Weight", "weight"], ["Requests", "rate"]], used.slice(0, MOST_ROWS).map((row) => [
      row.service,
      [row.from, link({ service: row.service, from: row.from })],
      percent(row.share, 1),
      String(row.weight),
      `${rate(row.rate)}/s`,
    ]), found.excluded.map((row) => `${row.service} from ${row.from}: ${row.reason}`).join("; ") || "No client site sends to it."),
    paragraph("falls", `${used.length > MOST_ROWS ? `And ${used.length - MOST_ROWS} more. ` : ""}${falls ? `It is what ${count(falls, "pair")} of service and client site fall to when no other instance answers.` : ""}`),
    table("signals", "What it reports", ["Signal", "Value", "From", ["Age", "age"]], [
      ...Object.entries(found.signals).map(([signal, reading]) => [signal, figure(reading.value), reading.source, age(reading.age)]),
      ...Object.entries(found.rates).filter(([, reading]) => reading).map(([signal, reading]) => [`${signal} per second`, figure(reading.value), reading.source, age(reading.age)]),
    ], "It reports nothing; its prior counts."),
    table("traffic", "What Envoys see of it", ["From", "Service", ["Requests", "rate"], ["Failures", "failures"], ["Latency", "observed"]], found.traffic.map((row) => [
      row.from, row.service, `${rate(row.rate.value)}/s`, percent(row.failures, 1), latency(row.latency?.value),
    ]), "No Envoy has sent to it lately."),
  ];
}

/** What was kept of an instance at a moment of the past. */
function pastInstance(overview, name) {
  const item = overview.instances.find((each) => each.name === name);
  if (!item) return [paragraph("gone", `${name} was not there at ${clock(overview.at)}.`)];
  const why = item.reason ? `: ${item.reason}` : "";
  const senders = Object.entries(overview.shares).flatMap(([service, sites]) =>
    Object.entries(sites).filter(([, to]) => name in to).map(([from, to]) => [service, [from, link({ service, from })], percent(to[name], 1), `${rate(to[name] * (overview.rates[service]?.[from] ?? 0))}/s`]),
  );
  const load = item.running === null ? "no load" : `${item.running} running of ${item.slots}, ${item.waiting ?? 0} waiting`;
  return [
    paragraph("state", `At ${clock(overview.at)}: ${item.phase.replace("_", " ")}${why}; ${load}, latency ${latency(item.latency)}.${item.awaited ? ` Awaited: ${item.awaited}.` : ""}`),
    table("senders", "Who sent to it", ["Service", "From", ["Share", "share"], ["Requests", "rate"]], senders, "No client site sent to it."),
  ];
}

async function envoyOf(id) {
  const [, found] = await get(`/api/v1/envoys?${new URLSearchParams({ id })}`);
  const envoy = found.envoys[0];
  if (!envoy) return [paragraph("gone", `${id} is not connected.${found.gone[0] ? ` It left at ${clock(found.gone[0].gone_at)}.` : ""}`)];
  const site = envoy.known_site ? envoy.site : `${envoy.site || "no site"}, which the configuration does not have`;
  return [
    paragraph("state", `${envoy.role} ${envoy.agent} at ${site}, ${envoy.mode}, connected at ${clock(envoy.connected_at)}.${envoy.supported ? "" : " This version is not supported."}`),
    table("types", "What it was sent", ["Type", "Sent", ["Acknowledged", "acknowledged"], "After", "Rejected", "Pushes"], Object.entries(envoy.types).map(([type, row]) => [
      type,
      short(row.sent),
      row.acknowledged === row.sent ? "this version" : short(row.acknowledged) || "nothing yet",
      latency(row.time_to_acknowledge),
      row.refused ? `${short(row.refused)}: ${row.refusal}` : DASH,
      String(row.pushes),
    ]), "It has asked for nothing."),
  ];
}

async function agents() {
  const [, found] = await get("/api/v1/agents");
  return [
    table("agents", "", ["Agent", "Site", "Version", "Since", "Last report", "Accepted", "Rejected", "Lost", "Clock"], found.agents.map((item) => [
      item.id, item.site, item.version, clock(item.connected_at), `${age(Math.max(0, found.at - item.last_report_at))} ago`, String(item.reports_accepted), item.last_rejection ? `${item.reports_rejected}: ${item.last_rejection}` : String(item.reports_rejected), String(item.batches_lost), `${item.clock_offset} s`,
    ]), "No agent is connected; instances are scraped, or report by their Envoys only."),
  ];
}

function alertsPage(alerts, now) {
  return [
    table("alerts", "", ["What", "Since", "What to do", "See"], alerts.map((alert) => [
      { text: alert.text, class: alert.level },
      `${dated(alert.since)}, ${age(Math.max(0, now - alert.since))} ago`,
      alert.remedy,
      alert.links.instance ? [alert.links.instance, link({ instance: alert.links.instance })] : alert.links.envoy ? [alert.links.envoy, link({ envoy: alert.links.envoy })] : alert.links.site ? [alert.links.site, link({ service: alert.links.service, from: alert.links.site })] : DASH,
    ]), "Nothing needs an operator."),
  ];
}

function paragraph(key, text) {
  return { key, make: () => make("p", { class: "summary" }), update: (element) => setText(element, text) };
}

function table(key, title, columns, rows, nothing) {
  return {
    key,
    make: () => {
      const head = columns.map((column) => {
        const [text, meaning] = Array.isArray(column) ? column : [column];
        const cell = make("th", { scope: "col", text });
        return meaning ? explain(cell, meaning) : cell;
      });
      const name = `detail-${key}`;
      return make("div", {}, title ? make("h3", { id: name, text: title }) : make("h3", { id: name, text: "List", class: "unseen" }), make("p", { class: "hint" }), make("div", { class: "scroll", role: "region", "aria-labelledby": name, tabindex: "0" }, make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody"))));
    },
    update: (element) => {
      const [, words, scroll] = element.children;
      words.hidden = rows.length > 0;
      scroll.hidden = !rows.length;
      setText(words, nothing);
      const names = columns.map((column) => (Array.isArray(column) ? column[0] : column));
      const keyed = rows.map((cells, place) => ({ cells, key: `${place}` }));
      keep(scroll.querySelector("tbody"), keyed, (row) => row.key, (row) => make("tr", {}, ...row.cells.map((_, place) => make("td", { "data-column": names[place] }))), (element_, row) => row.cells.forEach((cell, place) => setCell(element_.children[place], cell)));
    },
  };
}

function setCell(element, cell) {
  if (Array.isArray(cell)) {
    const [text, href] = cell;
    if (!element.firstElementChild) element.replaceChildren(make("a", { text, href }));
    setText(element.firstElementChild, text);
    setAttribute(element.firstElementChild, "href", href);
  } else if (cell !== null && typeof cell === "object") {
    setText(element, cell.text);
    setAttribute(element, "class", cell.class);
  } else {
    setText(element, cell);
  }
}

const SPARK = { width: 420, height: 64 };

/** Load over the last quarter of an hour. */
function spark(past, at) {
  return {
    key: "spark",
    make: () => make("figure", {}, draw("svg", { class: "spark", viewBox: `0 0 ${SPARK.width} ${SPARK.height}`, "aria-hidden": "true" }, draw("path", { class: "line predicted" }), draw("path", { class: "line observed" })), make("figcaption", { class: "hint" })),
    update: (element) => {
      const [svg, caption] = element.children;
      const values = [...past.running, ...past.waiting].filter((value) => value !== null);
      svg.style.display = values.length ? "" : "none";
      const top = Math.max(1, ...values);
      setAttribute(svg.children[0], "d", path(past.running, at, top));
      setAttribute(svg.children[1], "d", path(past.waiting, at, top));
      setText(caption, values.length ? `Running (teal) and waiting (yellow) over ${age(at.at(-1) - at[0])}; at most ${figure(top)}.` : "No load was reported in the last 15 minutes.");
    },
  };
}

function path(values, at, top) {
  let found = "";
  let pen = "M";
  values.forEach((value, place) => {
    if (value === null) {
      pen = "M";
      return;
    }
    const x = ((at[place] - at[0]) / Math.max(1, at.at(-1) - at[0])) * SPARK.width;
    found += `${pen}${x.toFixed(1)} ${(SPARK.height - 2 - (value / top) * (SPARK.height - 6)).toFixed(1)}`;
    pen = "L";
  });
  return found;
}

function figure(value) {
  if (value === null || value === undefined) return DASH;
  return Number.isInteger(value) ? String(value) : Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(Math.abs(value) >= 1 ? 1 : 3);
}

function short(version) {
  return (version ?? "").slice(0, 8);
}
