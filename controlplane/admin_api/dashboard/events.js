// What happened, newest first.

import { make } from "./dom.js";
import { clock } from "./format.js";

const MOST = 100;

export class EventList {
  constructor(list) {
    this.list = list;
    this.clear();
  }

  clear() {
    this.list.replaceChildren(make("li", { class: "dim", text: "Nothing happened yet." }));
    this.empty = true;
  }

  add(event) {
    if (this.empty) this.list.replaceChildren();
    this.empty = false;
    const { kind, at, level, ...fields } = event;
    const grade = level === "info" ? "good" : /refused|no longer/.test(kind) ? "bad" : "warn";
    const time = make("time", { datetime: new Date(at * 1000).toISOString(), text: clock(at) });
    const item = make("li", { class: grade }, time, make("b", { text: kind }), make("span", { text: tell(fields) }));
    this.list.prepend(item);
    while (this.list.children.length > MOST) this.list.lastChild.remove();
  }
}

function tell(fields) {
  return Object.entries(fields)
    .filter(([, value]) => value !== "" && value !== null && value !== undefined)
    .map(([name, value]) => `${name} ${Array.isArray(value) ? value.slice(0, 8).join(", ") : value}`)
    .join(" · ");
}
