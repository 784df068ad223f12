// The dashboard: follows the stream of differences and draws the overview, once a frame.
//
// The selection lives in the address (#service=chat&from=edge-north&at=1700000000), so that it can
// be shared. The page only reads; it holds nothing that the control plane does not say.

import { History, LatencyChart } from "./chart.js";
import { keepOptions, setAttribute, setText } from "./dom.js";
import { EventList } from "./events.js";
import { Explanation } from "./explanation.js";
import { FlowGraph } from "./flows.js";
import { clock } from "./format.js";
import { showMeanings } from "./glossary.js";
import { Live, view } from "./live.js";
import { SiteMap } from "./map.js";
import { MomentPicker } from "./moment.js";
import { DetailPage } from "./pages.js";
import { updateBanners, updateCanaries, updateHeadline, updateInstances, updateOverrides, updateSites } from "./tables.js";

const ROWS = 100; // instances listed at first, and more at each wish
const NAMES = { service: "service", site: "from", at: "at", instance: "instance", envoy: "envoy", page: "page", group: "group", events: "events", find: "find" };
const byId = (id) => document.getElementById(id);
const selection = { service: "", site: "", at: null, instance: "", envoy: "", page: "", group: "", events: "", find: "", width: "share", span: 900 };
const live = new Live();
const history_ = new History();
const events = new EventList(byId("event-list"), byId("event-count"));
const explanation = new Explanation(byId("explanation-title"), byId("explanation-body"));
const detail = new DetailPage(byId("detail"), byId("detail-title"), byId("detail-body"));
const chooseSite = (site) => select({ site: site === selection.site ? "" : site });
const graph = new FlowGraph(byId("graph"), { onSelect: chooseSite, onGroup: (group) => select({ group: group === selection.group ? "" : group, site: "" }) });
const map = new SiteMap(byId("map"), byId("map-box"), chooseSite);
const chart = new LatencyChart(byId("chart"), (at) => select({ at }));
const picker = new MomentPicker(byId("moment"), (at) => select({ at }));
const widths = { graph: 600, chart: 500, "map-box": 0 };

let past = null; // the overview of the moment that is shown; null for now
let pastAt = null; // the moment that was asked for
let overview = null; // what is shown
let scheduled = false;
let asked = ""; // what the last explanation was asked for
let asking = false;
let rowsShown = ROWS;
let remembered = { key: "", at: 0 }; // the history that was asked for last

function select(change) {
  Object.assign(selection, change);
  const parts = new URLSearchParams();
  for (const [key, name] of Object.entries(NAMES)) if (selection[key]) parts.set(name, selection[key]);
  history.replaceState(null, "", `#${parts}`);
  showMoment();
  schedule();
}

function readAddress() {
  const parts = new URLSearchParams(location.hash.slice(1));
  for (const [key, name] of Object.entries(NAMES)) selection[key] = parts.get(name) ?? "";
  selection.at = Number(selection.at) || null;
  byId("event-find").value = selection.find;
  byId("event-group").value = selection.events;
  showMoment();
  schedule();
  if (selection.instance || selection.envoy || selection.page) byId("detail").scrollIntoView();
}

/** Fetch the moment that is picked, once. */
async function showMoment() {
  const at = selection.at;
  if (at === pastAt) return;
  pastAt = at;
  if (at === null) {
    past = null;
    schedule();
    return;
  }
  try {
    const answer = await fetch(`/api/v1/moment?at=${at}`);
    const found = await answer.json();
    if (pastAt !== at) return;
    past = answer.ok ? found : null;
    if (!answer.ok) select({ at: null });
  } catch {
    pastAt = undefined; // the stream says that the connection is lost
  }
  schedule();
}

function schedule() {
  if (scheduled || !live.document) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    render();
  });
}

function render() {
  performance.mark("cats-begin");
  const shown = past ?? live.document;
  const names = Object.keys(shown.services);
  if (!names.includes(selection.service)) selection.service = names[0];
  if (selection.site && !(selection.site in shown.sites)) selection.site = "";
  overview = view(shown, selection.service);
  const service = shown.services[selection.service];
  keepOptions(byId("service"), names.map((name) => ({ value: name, text: name })), selection.service);
  const sites = overview.sites.map((item) => ({ value: item.name, text: item.name }));
  keepOptions(byId("site"), [{ value: "", text: "all" }, ...sites], selection.site);
  picker.update(past ? past.at : null, live.document.at, past?.reach?.[0] ?? live.document.at - 900);
  setAttribute(document.body, "class", past ? "past" : null);
  updateHeadline(byId("headline"), overview);
  updateBanners(byId("banners"), overview, past);
  updateSites(byId("site-rows"), overview, selection, byId("site-filter").value, chooseSite);
  const flows = graph.update(overview, selection, widths.graph);
  const promised = service.slo.latency ? `; promised within ${service.slo.latency} s` : "";
  setText(byId("flows-hint"), `${service.name}: ${service.task}, delay-${service.delay}, policy ${service.policy}${promised}. ${flows.words}`);
  map.update(overview, selection, widths["map-box"]);
  detail.update(selection, overview, past === null);
  events.choose({ group: selection.events, words: selection.find, until: past ? past.at : null });
  updateCanaries(byId("canaries"), byId("canary-rows"), overview);
  updateOverrides(byId("overrides"), byId("override-rows"), overview);
  setText(byId("instances-title"), `Instances (${overview.instances.length})`);
  if (byId("instance-details").open) {
    const found = updateInstances(byId("instance-rows"), overview, byId("instance-filter").value, rowsShown);
    byId("instance-more").hidden = found <= rowsShown;
    setText(byId("instance-more"), `Show ${Math.min(ROWS, found - rowsShown)} more of ${found}`);
  }
  const site = selection.site; // none: the mean over all of them
  remember(selection.service, site);
  chart.update(history_.of(selection.service, site, selection.span), { service: selection.service, site, slo: service.slo.latency, at: past ? past.at : null }, widths.chart);
  explain();
  performance.measure("cats-render", "cats-begin");
  if (performance.getEntriesByName("cats-render").length > 200) performance.clearMeasures("cats-render");
  performance.clearMarks("cats-begin");
  setAttribute(document.documentElement, "data-drawn", live.document.at);
  setAttribute(document.documentElement, "data-shown", overview.at);
}

/** Ask for what was before this page was opened; again once a minute for spans it has not seen. */
async function remember(service, site) {
  const query = new URLSearchParams({ service, since: `${selection.span}s` });
  if (site) query.set("from", site);
  const key = `${query}`;
  const now = live.document.at;
  if (remembered.key === key && (selection.span <= 900 || Math.abs(now - remembered.at) < 60)) return;
  remembered = { key, at: now };
  try {
    const answer = await fetch(`/api/v1/history?${query}`);
    if (answer.ok && remembered.key === key) history_.fill(service, site, await answer.json());
    schedule();
  } catch {
    remembered.at = 0; // the stream says that the connection is lost
  }
}

async function explain() {
  if (!selection.site) {
    asked = "";
    explanation.clear("Select a client site, in the picture or in the table, to see every term behind each weight.");
    return;
  }
  if (past) {
    asked = "";
    explanation.updatePast(past, selection);
    return;
  }
  const query = new URLSearchParams({ service: selection.service, from: selection.site });
  const wanted = `${query}@${overview.at}`;
  if (asking || asked === wanted) return;
  asking = true;
  asked = wanted;
  try {
    const answer = await fetch(`/api/v1/explain?${query}`);
    const found = await answer.json();
    if (!past && selection.service === query.get("service") && selection.site === query.get("from")) {
      if (answer.ok) explanation.update(found);
      else explanation.clear(found.error);
    }
  } catch {
    asked = ""; // the stream says that the connection is lost, and brings us back here
  } finally {
    asking = false;
    if (selection.service !== query.get("service") || selection.site !== query.get("from")) schedule();
  }
}

function showConnection(state, text) {
  setAttribute(byId("connection"), "data-state", state);
  setText(byId("connection"), text);
}

function connect() {
  const stream = new EventSource("/api/v1/events?kinds=live");
  const receive = (apply) => (event) => {
    apply(JSON.parse(event.data));
    history_.add(live.document);
    schedule();
  };
  stream.addEventListener("open", () => {
    events.clear(); // the server says what happened before
    showConnection("live", "live");
  });
  stream.addEventListener("live", receive((content) => live.replace(content)));
  stream.addEventListener("change", receive((content) => live.change(content)));
  stream.addEventListener("fault", (event) => events.add(JSON.parse(event.data)));
  stream.addEventListener("error", () => {
    const since = live.document ? `since ${clock(live.document.at)} ` : "";
    showConnection("lost", `connection lost ${since}– trying again; Envoys keep their weights meanwhile`);
    if (stream.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
  });
}

function watchWidths() {
  const observer = new ResizeObserver((entries) => {
    for (const entry of entries) {
      const name = entry.target.id;
      if (!entry.contentRect.width) continue; // hidden, or not laid out: its last width holds
      const width = Math.max(280, Math.round(entry.contentRect.width));
      if (widths[name] !== width) {
        widths[name] = width;
        schedule();
      }
    }
  });
  for (const name of Object.keys(widths)) observer.observe(byId(name));
}

byId("service").addEventListener("change", (event) => select({ service: event.target.value }));
byId("site").addEventListener("change", (event) => select({ site: event.target.value }));
byId("span").addEventListener("change", (event) => select({ span: Number(event.target.value) }));
for (const form of document.querySelectorAll("form")) form.addEventListener("submit", (event) => event.preventDefault());
for (const input of document.querySelectorAll("input[name=width]")) {
  input.addEventListener("change", () => select({ width: input.value }));
}
byId("instance-details").addEventListener("toggle", schedule);
byId("instance-filter").addEventListener("input", schedule);
byId("site-filter").addEventListener("input", schedule);
byId("event-find").addEventListener("input", (event) => select({ find: event.target.value }));
byId("event-group").addEventListener("change", (event) => select({ events: event.target.value }));
byId("detail-close").addEventListener("click", () => select({ instance: "", envoy: "", page: "" }));
byId("instance-more").addEventListener("click", () => {
  rowsShown += ROWS;
  schedule();
});
addEventListener("hashchange", readAddress);
showMeanings(byId("meaning"));
readAddress();
watchWidths();
connect();
