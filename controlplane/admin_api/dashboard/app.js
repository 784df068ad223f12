// The dashboard: listens to the event stream and draws the newest overview, once a frame.
//
// The selection lives in the address (#service=chat&from=edge-north), so that it can be shared.
// The page only reads; it holds nothing that the control plane does not say.

import { History, LatencyChart } from "./chart.js";
import { keepOptions, setAttribute, setText } from "./dom.js";
import { EventList } from "./events.js";
import { Explanation } from "./explanation.js";
import { FlowGraph } from "./flows.js";
import { updateBanners, updateCanaries, updateHeadline, updateInstances, updateOverrides, updateSites } from "./tables.js";

const ROWS = 100; // instances listed at first, and more at each wish
const byId = (id) => document.getElementById(id);
const selection = { service: "", site: "", width: "share", span: 900 };
const history_ = new History();
const events = new EventList(byId("event-list"));
const explanation = new Explanation(byId("explanation-title"), byId("explanation-body"));
const graph = new FlowGraph(byId("graph"), (site) => select({ site: site === selection.site ? "" : site }));
const chart = new LatencyChart(byId("chart"));
const widths = { graph: 600, chart: 500 };

let overview = null;
let scheduled = false;
let asked = ""; // what the last explanation was asked for
let asking = false;
let rowsShown = ROWS;
let remembered = { key: "", at: 0 }; // the history that was asked for last

function select(change) {
  Object.assign(selection, change);
  const parts = new URLSearchParams();
  if (selection.service) parts.set("service", selection.service);
  if (selection.site) parts.set("from", selection.site);
  history.replaceState(null, "", `#${parts}`);
  schedule();
}

function readAddress() {
  const parts = new URLSearchParams(location.hash.slice(1));
  selection.service = parts.get("service") ?? selection.service;
  selection.site = parts.get("from") ?? "";
  schedule();
}

function schedule() {
  if (scheduled || !overview) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    render();
  });
}

function render() {
  performance.mark("cats-begin");
  const services = overview.services.map((item) => item.name);
  if (!services.includes(selection.service)) selection.service = services[0];
  if (selection.site && !overview.sites.some((item) => item.name === selection.site)) selection.site = "";
  const service = overview.services.find((item) => item.name === selection.service);
  keepOptions(byId("service"), services.map((name) => ({ value: name, text: name })), selection.service);
  const sites = overview.sites.map((item) => ({ value: item.name, text: item.name }));
  keepOptions(byId("site"), [{ value: "", text: "all" }, ...sites], selection.site);
  updateHeadline(byId("headline"), overview);
  updateBanners(byId("banners"), overview);
  updateSites(byId("site-rows"), overview, selection, (site) => select({ site: site === selection.site ? "" : site }));
  const flows = graph.update(overview, selection, widths.graph);
  const promised = service.slo.latency ? `; promised within ${service.slo.latency} s` : "";
  setText(byId("flows-hint"), `${service.name}: ${service.task}, delay-${service.delay}, policy ${service.policy}${promised}. From client sites (left) to ${flows.single ? "instances" : "sites"} (right).`);
  updateCanaries(byId("canaries"), byId("canary-rows"), overview);
  updateOverrides(byId("overrides"), byId("override-rows"), overview);
  setText(byId("instances-title"), `Instances (${overview.instances.length})`);
  if (byId("instance-details").open) {
    const found = updateInstances(byId("instance-rows"), overview, byId("instance-filter").value, rowsShown);
    byId("instance-more").hidden = found <= rowsShown;
    setText(byId("instance-more"), `Show ${Math.min(ROWS, found - rowsShown)} more of ${found}`);
  }
  const site = selection.site || busiest();
  remember(selection.service, site);
  chart.update(history_.of(selection.service, site, selection.span), { service: selection.service, site, slo: service.slo.latency }, widths.chart);
  explain();
  performance.measure("cats-render", "cats-begin");
  if (performance.getEntriesByName("cats-render").length > 200) performance.clearMeasures("cats-render");
  performance.clearMarks("cats-begin");
  setAttribute(document.documentElement, "data-drawn", overview.at);
}

/** Ask for what was before this page was opened; again once a minute for spans it has not seen. */
async function remember(service, site) {
  const query = new URLSearchParams({ service, from: site, since: `${selection.span}s` });
  const key = `${query}`;
  if (!site || (remembered.key === key && (selection.span <= 900 || overview.at - remembered.at < 60))) return;
  remembered = { key, at: overview.at };
  try {
    const answer = await fetch(`/api/v1/history?${query}`);
    if (answer.ok && remembered.key === key) history_.fill(service, site, await answer.json());
    schedule();
  } catch {
    remembered.at = 0; // the stream says that the connection is lost
  }
}

function busiest() {
  const known = overview.latency[selection.service] ?? {};
  const rows = (overview.flows[selection.service] ?? []).filter((row) => row.from in known);
  rows.sort((a, b) => b.rate - a.rate);
  return rows[0]?.from ?? "";
}

async function explain() {
  if (!selection.site) {
    asked = "";
    explanation.clear("Select a client site, in the picture or in the table, to see every term behind each weight.");
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
    if (selection.service === query.get("service") && selection.site === query.get("from")) {
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

function tellConnection(state, text) {
  setAttribute(byId("connection"), "data-state", state);
  setText(byId("connection"), text);
}

function connect() {
  const stream = new EventSource("/api/v1/events?kinds=overview");
  stream.addEventListener("open", () => {
    events.clear(); // the server says what happened before
    tellConnection("live", "live");
  });
  stream.addEventListener("overview", (event) => {
    overview = JSON.parse(event.data);
    history_.add(overview);
    schedule();
  });
  stream.addEventListener("fault", (event) => events.add(JSON.parse(event.data)));
  stream.addEventListener("error", () => {
    tellConnection("lost", "connection lost, trying again; Envoys keep their weights meanwhile");
    if (stream.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
  });
}

function watchWidths() {
  const observer = new ResizeObserver((entries) => {
    for (const entry of entries) {
      const name = entry.target.id;
      const width = Math.max(280, Math.round(entry.contentRect.width));
      if (widths[name] !== width) {
        widths[name] = width;
        schedule();
      }
    }
  });
  observer.observe(byId("graph"));
  observer.observe(byId("chart"));
}

byId("service").addEventListener("change", (event) => select({ service: event.target.value }));
byId("site").addEventListener("change", (event) => select({ site: event.target.value }));
byId("span").addEventListener("change", (event) => select({ span: Number(event.target.value) }));
byId("selection").addEventListener("submit", (event) => event.preventDefault());
for (const input of document.querySelectorAll("input[name=width]")) {
  input.addEventListener("change", () => select({ width: input.value }));
}
byId("instance-details").addEventListener("toggle", schedule);
byId("instance-filter").addEventListener("input", schedule);
byId("instance-more").addEventListener("click", () => {
  rowsShown += ROWS;
  schedule();
});
addEventListener("hashchange", readAddress);
readAddress();
watchWidths();
connect();
