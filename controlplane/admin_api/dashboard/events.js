// What happened, newest first: filtered, and each with links to what it is about.

import { make, setText } from "./dom.js";
import { dated } from "./format.js";

const MOST = 200;
const NAMED = 8; // of a list in one line
const MOVES = new Set(["shares moved"]);

/** Give the group of an event that a filter names. */
export function groupOf({ kind, level }) {
  if (MOVES.has(kind)) return "moves";
  return level === "info" ? "changes" : "faults";
}

export class EventList {
  constructor(list, count) {
    this.list = list;
    this.count = count;
    this.events = [];
    this.filter = { group: "", words: "", until: null };
    this.show();
  }

  clear() {
    this.events = [];
    this.show();
  }

  add(event) {
    this.events.unshift(event);
    this.events.length = Math.min(this.events.length, MOST);
    this.pending ??= requestAnimationFrame(() => {
      this.pending = undefined;
      this.show();
    });
  }

  /** Show those of a group ("": all) that have `words`, up to an instant. */
  choose(filter) {
    const next = { ...this.filter, ...filter };
    if (JSON.stringify(next) === JSON.stringify(this.filter)) return;
    this.filter = next;
    this.show();
  }

  show() {
    const { group, words, until } = this.filter;
    const wanted = words.trim().toLowerCase();
    const found = this.events.filter(
      (event) => (!group || groupOf(event) === group) && (until === null || event.at <= until + 1) && (!wanted || line(event).toLowerCase().includes(wanted)),
    );
    this.list.replaceChildren(...(found.length ? found.map(item) : [make("li", { class: "dim", text: this.events.length ? "No event passes the filter." : "Nothing happened yet." })]));
    setText(this.count, found.length === this.events.length ? "" : `${found.length} of ${this.events.length}`);
  }
}

function item(event) {
  const { kind, at, level } = event;
  const grade = level === "info" ? (MOVES.has(kind) ? "move" : "good") : /rejected|removed|silent/.test(kind) ? "bad" : "warn";
  const moment = make("a", { href: link({ ...target(event), at: Math.floor(at) }), title: "Show this moment" }, make("time", { datetime: new Date(at * 1000).toISOString(), text: dated(at) }));
  const words = make("span", { text: MOVES.has(kind) ? event.text.replaceAll(" -> ", "\u00a0→\u00a0") : sentence(event) });
  const remedy = event.remedy ? [make("div", { class: "remedy", text: `What to do: ${event.remedy}.` })] : [];
  return make("li", { class: grade }, moment, words, ...links(event), ...remedy);
}

/** Give links to the pair, the instance and the Envoy that an event names. */
function links(event) {
  const { service, instance, envoy } = target(event);
  const found = [];
  if (instance) found.push(make("a", { href: link({ instance }), text: instance }));
  if (envoy) found.push(make("a", { href: link({ envoy }), text: envoy }));
  if (service && event.from) found.push(make("a", { href: link({ service, from: event.from }), text: "why" }));
  return found;
}

function target({ service, from, instance, envoy }) {
  return { service, from, instance, envoy };
}

/** Give the address of a selection; what is unknown is left out. */
export function link(parts) {
  const given = Object.entries(parts).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return `#${new URLSearchParams(given)}`;
}

function line(event) {
  return `${event.kind} ${event.text ?? ""} ${fields(event)}`;
}

/** What happened, as a reader would say it; what a link or the remedy's line says is left out. */
function sentence({ kind, at, level, remedy, previous, phase, reason, awaited, fault, faults, service, from, instance, envoy, ...rest }) {
  const name = instance || envoy || (service ? `${service}${from ? ` from ${from}` : ""}` : "");
  const change = phase ? `${words(previous)} → ${words(phase)}` : "";
  const causes = [fault, ...(faults ?? []), reason].filter(Boolean).join("; ");
  const more = Object.entries(rest).filter(([, value]) => known(value)).map(([field, value]) => `${words(field)} ${plain(value)}`);
  const facts = [instance && service ? `for ${service}` : "", change, ...more].filter(Boolean).join(", ");
  const about = [name, facts].filter(Boolean).join(": ");
  const said = [kind, about, causes].filter(Boolean).join(" – ");
  return awaited ? `${said}. Awaited: ${awaited}.` : said;
}

function words(text) {
  return String(text).replaceAll("_", " ");
}

function known(value) {
  return value !== "" && value !== null && value !== undefined;
}

function plain(value) {
  if (Array.isArray(value)) return value.length > NAMED ? `${value.slice(0, NAMED).join(", ")} and ${value.length - NAMED} more` : value.join(", ");
  return value !== null && typeof value === "object" ? Object.entries(value).map(([name, each]) => `${words(name)} ${plain(each)}`).join(", ") : String(value);
}

function fields({ kind, at, level, ...rest }) {
  return Object.entries(rest).filter(([, value]) => known(value)).map(([name, value]) => `${name} ${plain(value)}`).join(" · ");
}
