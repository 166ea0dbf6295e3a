// Elements. Text only ever gets in as text: nothing here, or elsewhere on the page, makes markup of it.

const SVG = 'http://www.w3.org/2000/svg';

function fill(e, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) e.addEventListener(name.slice(2), value);
    else if (value === true) e.setAttribute(name, '');
    else if (value !== false && value !== null && value !== undefined) e.setAttribute(name, value);
  }
  e.append(...children.filter((c) => c !== null && c !== undefined && c !== false));
  return e;
}

export const h = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
export const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
export const byId = (id) => document.getElementById(id);

/** Sets only what differs: a page that writes what is there already has the browser do the work again. */
export function setText(e, text) {
  if (e.textContent !== text) e.textContent = text;
}
export function setAttribute(e, name, value) {
  if (value === null) e.removeAttribute(name);
  else if (e.getAttribute(name) !== String(value)) e.setAttribute(name, value);
}
export function setWidth(e, share) {
  const width = `${(100 * share).toFixed(1)}%`;
  if (e.style.width !== width) e.style.width = width;
}

/** A round mark and a word: never told by colour alone. */
export function badge(state) {
  const e = h('span', { class: 'badge' });
  setBadge(e, state);
  return e;
}
export function setBadge(e, state) {
  setText(e, state);
  setAttribute(e, 'data-state', state);
}

/** A bar with its figure. `label` is what it is of. */
export function progress(label) {
  const bar = h('span', { class: 'fill' }), figure = h('span', { class: 'figure' });
  const e = h('span', { class: 'progress', role: 'progressbar', 'aria-label': label, 'aria-valuemin': 0, 'aria-valuemax': 100 }, h('span', { class: 'track' }, bar), figure);
  return { e, set(share) {
    const whole = Math.round(100 * share);
    setWidth(bar, share);
    setText(figure, `${whole} %`);
    setAttribute(e, 'aria-valuenow', whole);
  } };
}

/** Children by key, in order: those that are there stay, so that focus and selection do. `make(item)` -> {e, update(item)}. */
export function keyed(parent, make) {
  const known = new Map();
  return (items, key) => {
    const wanted = new Set(items.map(key));
    for (const [k, entry] of known) {
      if (!wanted.has(k)) {
        entry.e.remove();
        known.delete(k);
      }
    }
    items.forEach((item, i) => {
      const k = key(item);
      if (!known.has(k)) known.set(k, make(item));
      const entry = known.get(k);
      entry.update(item);
      if (parent.children[i] !== entry.e) parent.insertBefore(entry.e, parent.children[i] ?? null);
    });
  };
}
