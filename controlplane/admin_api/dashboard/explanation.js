// Why each weight is what it is: the terms of the cost as bars, and as a table in milliseconds.

import { keep, make, setAttribute, setText } from "./dom.js";
import { link } from "./events.js";
import { age, clock, latency, milliseconds, percent, rate } from "./format.js";
import { explain } from "./glossary.js";

export const TERMS = [
  ["rtt", "round trip"],
  ["transfer", "transfer"],
  ["service", "service"],
  ["queueing", "queueing"],
  ["penalty", "model penalty"],
  ["energy", "energy"],
  ["carbon", "carbon"],
  ["price", "price"],
  ["loading", "loading"],
  ["failure", "failures"],
  ["promise", "promise"],
  ["crowding", "crowding"],
];

const COLUMNS = [["Share", "share"], ["Was", "was"], ["Weight", "weight"], ...TERMS.map(([key, name]) => [capital(name), key]), ["Latency", "latency"], ["Cost", "cost"], ["Load", "capacity"], ["Known", "known"]];

const NAMED = 8; // instances named of those that get nothing for one reason

export class Explanation {
  constructor(title, body) {
    this.title = title;
    this.summary = make("p", { class: "summary" });
    this.note = make("p", { class: "banner warn", hidden: "" });
    this.bars = make("div", { class: "bars", "aria-hidden": "true" });
    this.legend = make("p", { class: "legend", "aria-hidden": "true" }, ...TERMS.map(([key, name]) => make("span", { class: `key term ${key}`, text: name })));
    this.rows = make(
      "table",
      {},
      make("caption", {}, make("div", { text: "Times in milliseconds. Cost is what one more request there would cost everyone; the plan makes it equal over the instances in use." })),
      make("thead", {}, make("tr", {}, make("th", { scope: "col", text: "Instance" }), ...COLUMNS.map(([name, meaning]) => explain(make("th", { scope: "col", class: "number", text: name }), meaning)))),
    );
    this.table = make(
      "div",
      { class: "scroll", role: "region", "aria-labelledby": "explanation-title", tabindex: "0" },
      this.rows,
    );
    this.excludedTitle = make("h3", { text: "Gets nothing" });
    this.excluded = make("ul", { class: "plain" });
    this.envoysTitle = make("h3", { text: "Envoys" });
    this.envoys = make("ul", { class: "plain envoys" });
    this.pieces = [this.note, this.bars, this.legend, this.table, make("div", { class: "columns even" }, make("div", {}, this.excludedTitle, this.excluded), make("div", {}, this.envoysTitle, this.envoys))];
    this.past = make("ul", { class: "plain", hidden: "" });
    body.append(this.summary, this.past, ...this.pieces);
    this.show(false);
  }

  show(shown) {
    for (const piece of this.pieces) piece.hidden = !shown;
  }

  clear(text) {
    setText(this.title, "Why");
    setText(this.summary, text);
    this.past.hidden = true;
    this.show(false);
  }

  update(document_) {
    this.show(true);
    this.past.hidden = true;
    setText(this.title, `Why: ${document_.service} from ${document_.from}`);
    const held = document_.held ? "; a better plan was known, and its gain too small to push" : "";
    setText(this.summary, `Policy ${document_.policy}, ${rate(document_.demand)} requests per second, plan ${document_.plan}${held}.${proposal(document_.proposed)}${canary(document_.canary)}`);
    this.note.hidden = !document_.note;
    setText(this.note, document_.note);
    this.updateBars(document_.instances);
    keepRows(this.rows, document_.instances);
    keep(
      this.excluded,
      document_.excluded_by_reason,
      (group) => group.reason,
      () => make("li", {}, make("b"), make("span")),
      (element, { reason, instances }) => {
        const more = instances.length > NAMED ? ` and ${instances.length - NAMED} more` : "";
        setText(element.firstChild, `${instances.slice(0, NAMED).join(", ")}${more}`);
        setText(element.lastChild, `: ${reason}`);
        setAttribute(element, "title", instances.join(", "));
      },
    );
    this.excludedTitle.hidden = !document_.excluded.length;
    this.updateEnvoys(document_);
  }

  /** Show the shares of a moment; the terms behind them are known of the present plan only. */
  updatePast(overview, { service, site }) {
    const shares = Object.entries(overview.shares[service]?.[site] ?? {}).sort((a, b) => b[1] - a[1]);
    const [predicted, observed] = overview.latency[service]?.[site] ?? [null, null];
    this.show(false);
    this.past.hidden = false;
    setText(this.title, `Why: ${service} from ${site}`);
    setText(this.summary, `At ${clock(overview.at)}: ${rate(overview.rates[service]?.[site])} requests per second, predicted ${latency(predicted)}, observed ${latency(observed)}, plan ${overview.plan.version.slice(0, 8)}. The terms behind each weight are kept of the plan that is served now; the events say why shares moved.`);
    keep(
      this.past,
      shares,
      ([name]) => name,
      () => make("li", {}, make("a"), make("span")),
      (element, [name, share]) => {
        const item = overview.instances[name];
        setText(element.firstChild, name);
        setAttribute(element.firstChild, "href", link({ instance: name, at: Math.floor(overview.at) }));
        const load = item && item.running !== null ? `${item.running} running of ${item.slots}` : "no load";
        setText(element.lastChild, `: ${percent(share, 1)}${item ? `, ${item.phase.replace("_", " ")}, ${load}` : ""}`);
      },
    );
  }

  updateBars(instances) {
    const costs = instances.filter((item) => item.terms);
    const most = Math.max(1e-9, ...costs.map((item) => Math.max(item.marginal_cost, 0)));
    keep(
      this.bars,
      costs.slice(0, 24),
      (item) => item.instance,
      () => make("div", { class: "bar" }, make("span", { class: "who" }), make("span", { class: "stack" }, ...TERMS.map(([key]) => make("i", { class: key }))), make("span", { class: "sum" })),
      (element, item) => {
        const [who, stack, sum] = element.children;
        setText(who, `${item.instance}  ${item.priority ? `spare ${item.priority}` : percent(item.share)}`);
        setAttribute(element, "class", item.priority ? "bar spare" : "bar");
        TERMS.forEach(([key], place) => {
          const size = `${((Math.max(0, item.terms[key]) / most) * 100).toFixed(2)}%`;
          if (stack.children[place].style.width !== size) stack.children[place].style.width = size;
        });
        setText(sum, `${milliseconds(item.marginal_cost)} ms`);
      },
    );
  }

  updateEnvoys(document_) {
    const holding = document_.envoys.filter((envoy) => envoy.acknowledged).length;
    const envoys = document_.envoys;
    setText(this.envoysTitle, `Envoys: ${holding} of ${envoys.length} at ${document_.from} hold these weights`);
    const order = [...envoys].sort((a, b) => rank(a) - rank(b) || (a.id < b.id ? -1 : 1)).slice(0, 100);
    keep(
      this.envoys,
      order,
      (envoy) => envoy.id,
      (envoy) => make("li", {}, make("a", { text: envoy.id, href: link({ envoy: envoy.id }) }), make("span")),
      (element, envoy) => {
        setAttribute(element, "class", envoy.refusal ? "bad" : envoy.acknowledged ? "good" : "warn");
        setText(element.lastChild, envoy.refusal ? ` rejects: ${envoy.refusal}` : envoy.acknowledged ? " acknowledged" : " has not acknowledged yet");
      },
    );
  }
}

function proposal(proposed) {
  if (!proposed) return "";
  const first = proposed.filter((item) => item.priority === 0);
  return ` Would be pushed if it steered: ${first.map((item) => `${item.instance} ${percent(item.share)}`).join(", ")}.`;
}

function canary(tried) {
  if (!tried) return "";
  const first = tried.standing.instances.filter((item) => item.priority === 0);
  const split = first.map((item) => `${item.instance} ${percent(item.share)}`).join(", ") || "not known";
  return ` This is a canary: elsewhere ${tried.standing.policy} decides, which here would give ${split}; predicted ${latency(tried.predicted_latency)} instead of ${latency(tried.standing.predicted_latency)}.`;
}

function rank(envoy) {
  return envoy.refusal ? 0 : envoy.acknowledged ? 2 : 1;
}

function keepRows(table, items) {
  table.body ??= table.appendChild(make("tbody"));
  const rows = items.flatMap((item) => [
    { name: `${item.instance} figures`, item, create: createRow, update: updateRow },
    { name: `${item.instance} remarks`, item, create: createRemarks, update: updateRemarks },
  ]);
  keep(table.body, rows, (row) => row.name, (row) => row.create(), (element, row) => row.update(element, row.item));
}

function createRow() {
  return make("tr", {}, make("th", { scope: "row" }, make("a"), make("small")), ...COLUMNS.map(() => make("td", { class: "number" })));
}

function updateRow(row, item) {
  const known = item.terms !== undefined;
  const load = known && item.capacity ? item.arrival_rate / item.capacity : null;
  setText(row.firstChild.firstChild, item.instance);
  setAttribute(row.firstChild.firstChild, "href", link({ instance: item.instance }));
  setText(row.firstChild.lastChild, item.priority ? ` at ${item.site}, spare ${item.priority}` : ` at ${item.site}`);
  const texts = [
    percent(item.share, 1),
    known ? percent(item.previous_share, 1) : "",
    String(item.weight),
    ...TERMS.map(([key]) => (known ? milliseconds(item.terms[key]) : "")),
    known ? milliseconds(item.predicted_latency) : "",
    known ? milliseconds(item.marginal_cost) : "",
    percent(load),
    known ? percent(item.confidence) : "",
  ];
  texts.forEach((text, place) => setText(row.children[place + 1], text));
  setAttribute(row, "class", item.priority ? "figures spare" : "figures");
}

function createRemarks() {
  return make("tr", { class: "remarks" }, make("td", { colspan: COLUMNS.length + 1 }, make("div", {}, make("b"), make("span"))));
}

function updateRemarks(row, item) {
  const known = item.terms !== undefined;
  const [limits, inputs] = row.firstChild.firstChild.children;
  setText(limits, known && item.limits.length ? `Limited by: ${item.limits.join("; ")}. ` : "");
  setText(inputs, known ? `Inputs: ${ages(item)}.` : "");
}

function ages(item) {
  return Object.entries(item.ages)
    .filter(([name, seconds]) => seconds !== null || item.sources[name])
    .map(([name, seconds]) => `${name} ${seconds === null ? "" : `${age(seconds)} old, `}${item.sources[name] ? `from ${item.sources[name]}` : seconds === null ? "never measured" : "measured"}`)
    .join("; ");
}

function capital(text) {
  return text[0].toUpperCase() + text.slice(1);
}
