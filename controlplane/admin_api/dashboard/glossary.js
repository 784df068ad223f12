// What each figure means, shown where the pointer is or the keyboard has its focus.

const MEANINGS = {
  plan: "The version of the plan that is served: a hash of all weights. Equal weights have an equal version, so it changes only when Envoys get something else.",
  held: "A better plan is known, and it would gain too little to be worth a push; the one before stays.",
  mode: "steer: the decided shares are pushed. observe: they are only shown, and the static split is pushed.",
  sites: "Places with instances, clients or both.",
  healthy: "Instances that get requests and report what they should, of all that are configured or discovered.",
  envoys: "Envoys that are connected. One lags while it has not acknowledged its newest endpoints for 2 s; one rejects when it refuses them, and keeps its last good ones.",
  configuration: "The version of the configuration in force: a hash of its values.",
  alerts: "What needs an operator now, each with what to do.",
  load: "Requests that run at once, over the slots for them. Those that wait come on top. An instance that is out of service has no load.",
  health: "Instances by phase: live, starting (it gets more and more), stale (its reports are late), quarantined (its figures are refuted), expired or not ready (out of service).",
  power: "What the site draws, of its budget.",
  demand: "Requests a second that enter by Envoys of this site for the chosen service, smoothed.",
  predicted: "Mean latency of a request that the plan predicts, network included, for the chosen service from this site.",
  observed: "Mean latency that Envoys of this site measure for the chosen service.",
  promised: "The latency that the service's slo states.",
  share: "Part of the service's requests from this client site that goes to the instance.",
  was: "The share before this plan.",
  weight: "The integer that Envoys get for the share.",
  rtt: "Round trip from the client site to the instance's site.",
  transfer: "Time that the request's and the answer's bytes take on the way.",
  service: "Time that an idle instance takes for the request.",
  queueing: "Time added by the load that the plan puts on the instance.",
  penalty: "The wait that the operator would accept to avoid this model.",
  energy: "Price of the energy that the request takes, as seconds.",
  carbon: "Carbon of the energy that the request takes, at the price that the operator states, as seconds.",
  price: "What the instance costs for the request, as seconds.",
  loading: "What loading the model there is expected to cost the request, as seconds.",
  promise: "What it costs that the promised latency may be missed.",
  failure: "Probability that the request fails there, times what a failed answer costs the service.",
  crowding: "What one more request would add to everyone else's latency, and to that of the slowest.",
  latency: "Round trip, transfer, service and queueing together.",
  cost: "What one more request there would cost everyone. The plan makes it equal over the instances in use.",
  capacity: "Requests a second that the plan puts on the instance, over what it is believed to sustain.",
  known: "How much of this estimate was measured; the rest is its prior.",
  reports: "How much its reports count against its prior: 100 % is fresh and whole, less is late or partial.",
  waiting: "Requests that wait inside the instance for a slot.",
  age: "Time since its newest report.",
  phase: "live: in service. starting: it gets more and more. stale: its reports are late. quarantined: its figures are refuted. expired, not ready: it gets nothing until it is back.",
  awaited: "What ends the phase.",
  model: "The model that it runs.",
  rate: "Requests a second that Envoys send, retries included.",
  failures: "Part of the answers that failed, of the last seconds.",
  policy: "How the shares are decided: optimal minimises the cost of all; the others are simpler and named in the documentation.",
  remark: "Why it is in its phase, and what its figures are trusted.",
  acknowledged: "The version that the Envoy has confirmed for a type of resource.",
};

/** Mark an element as a figure that has a meaning. */
export function explain(element, name) {
  element.dataset.meaning = name;
  element.tabIndex = 0;
  return element;
}

/** Show meanings on hover, on focus and on touch, and hide them on Escape. */
export function showMeanings(box) {
  for (const element of document.querySelectorAll("[data-meaning]")) element.tabIndex = 0;
  let shown = null;
  const show = (event) => {
    const element = event.target.closest?.("[data-meaning]");
    if (element === shown) return;
    shown?.removeAttribute("aria-describedby");
    shown = element;
    box.hidden = !element;
    if (!element) return;
    box.textContent = MEANINGS[element.dataset.meaning] ?? "";
    element.setAttribute("aria-describedby", box.id);
    const place = element.getBoundingClientRect();
    const left = Math.max(8, Math.min(place.left, innerWidth - box.offsetWidth - 8));
    const below = place.bottom + 6;
    box.style.left = `${left}px`;
    box.style.top = `${below + box.offsetHeight < innerHeight ? below : place.top - box.offsetHeight - 6}px`;
  };
  const hide = () => show({ target: document.body });
  addEventListener("mouseover", show);
  addEventListener("focusin", show);
  addEventListener("focusout", hide);
  addEventListener("scroll", hide, { capture: true, passive: true });
  addEventListener("keydown", (event) => event.key === "Escape" && hide());
}
