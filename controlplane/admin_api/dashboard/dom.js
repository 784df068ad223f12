// Small ways to change a page: only what differs is touched, and text is only ever text.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element; `text` and `class` are said like attributes, children follow. */
export function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for a drawing. */
export function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") element.textContent = whole(value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Keep a number on the line of its unit. */
function whole(text) {
  return typeof text === "string" ? text.replace(/(\d) (?=(s|ms|min|h|%|kW|MB|kB)(\W|$))/g, "$1\u00a0") : text;
}

/** Set a text if it is another one. */
export function setText(element, text) {
  const wanted = whole(text);
  if (element.textContent !== wanted) element.textContent = wanted;
}

/** Set or remove an attribute if it is another one. */
export function setAttribute(element, name, value) {
  if (value === null || value === undefined || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else if (element.getAttribute(name) !== String(value)) {
    element.setAttribute(name, value);
  }
}

/**
 * Keep the children of `parent` in step with `items`: those that stay are updated in place, so
 * focus, scrolling and selection survive.
 */
export function keep(parent, items, key, create, update) {
  const known = (parent.catsKnown ??= new Map());
  const seen = new Set();
  let after = null;
  for (const item of items) {
    const name = key(item);
    if (seen.has(name)) continue;
    seen.add(name);
    let element = known.get(name);
    if (!element) {
      element = create(item);
      known.set(name, element);
    }
    update(element, item);
    const place = after ? after.nextSibling : parent.firstChild;
    if (place !== element) parent.insertBefore(element, place);
    after = element;
  }
  for (const [name, element] of known) {
    if (!seen.has(name)) {
      element.remove();
      known.delete(name);
    }
  }
}

/** Keep the options of a select in step, and its value. */
export function keepOptions(select, options, value) {
  keep(
    select,
    options,
    (option) => option.value,
    (option) => make("option", { value: option.value }),
    (element, option) => setText(element, option.text),
  );
  if (select.value !== value) select.value = value;
}
