// The overview as the control plane sends it: whole at first, then differences.
//
// Mappings are merged, everything else replaces, and the key "" lists what is gone.

export class Live {
  constructor() {
    this.document = null;
  }

  replace(document_) {
    this.document = document_;
  }

  change(difference) {
    if (this.document) merge(this.document, difference);
  }
}

function merge(target, difference) {
  for (const name of difference[""] ?? []) delete target[name];
  for (const [name, value] of Object.entries(difference)) {
    if (name === "") continue;
    const former = target[name];
    if (isMapping(value) && isMapping(former)) merge(former, value);
    else target[name] = value;
  }
}

function isMapping(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}

/** Give the lists that tables and pictures are made of, with the flows of one service. */
export function view(document_, service) {
  const shares = document_.shares[service] ?? {};
  const rates = document_.rates[service] ?? {};
  const rows = Object.keys(shares).map((from) => ({ from, rate: rates[from] ?? 0, to: Object.entries(shares[from]) }));
  return {
    ...document_,
    sites: Object.values(document_.sites),
    services: Object.values(document_.services),
    instances: Object.values(document_.instances),
    flows: { [service]: rows },
  };
}
