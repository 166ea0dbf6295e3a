// The fleet as a table of which only what is seen exists: some 30 rows, whatever the number of devices. Rows are reused, each for every
// n-th device, so that one that stays in view stays the same element and keeps focus.

import { h, setAttribute, setBadge, setText, setWidth } from './dom.js';
import { NONE, ago, bytes, number, percent } from '../model/format.js';
import { deviceState, online } from '../model/store.js';

const SPARE_ROWS = 4; // above and below what is seen

const HEADS = [
  ['device', 'Device'], ['state', 'State'], ['accuracy', 'Accuracy'], ['origin', 'Weights from'], ['epoch', 'Epoch'], ['handover', 'Handover'],
  ['moved', 'Moved'], ['heard', 'Heard'],
];

function makeRow(onOpen) {
  const link = h('a', { tabindex: -1 }), pin = h('span', { class: 'pin' }), state = h('span', { class: 'badge' }), why = h('span', { class: 'why' });
  const bar = h('span', { class: 'fill' }), accuracy = h('span', { class: 'figure' }), origin = h('span', { class: 'origin' });
  const cells = Object.fromEntries(HEADS.map(([name]) => [name, h(name === 'device' ? 'th' : 'td', { class: `c-${name}`, scope: name === 'device' ? 'row' : null })]));
  cells.device.append(link, pin);
  cells.state.append(state, why);
  cells.accuracy.append(h('span', { class: 'bar' }, bar), accuracy);
  cells.origin.append(origin);
  const e = h('tr', { onclick: () => onOpen(link.textContent) }, ...Object.values(cells));
  return { e, link, index: -1, device: null, update(d, index, now) {
    if (this.index !== index) {
      this.index = index;
      setAttribute(e, 'aria-rowindex', index + 2); // the heads are row 1
      e.classList.toggle('odd', index % 2 === 1);
    }
    setText(cells.heard, ago(d.status?.at, now));
    if (this.device === d) return;
    this.device = d;
    const s = d.status, a = s?.active ?? null;
    setText(link, d.id);
    setAttribute(link, 'href', `#/device/${d.id}`);
    setText(pin, a?.pinned ? 'pinned' : '');
    setBadge(state, deviceState(d));
    setText(why, online(d) === false ? '' : s?.progress !== null && s?.phase === 'training' ? percent(s.progress, 0) : s?.phase === 'waiting' ? s.reason : '');
    setText(accuracy, percent(a?.accuracy));
    setWidth(bar, a?.accuracy ?? 0);
    setText(origin, a?.origin ?? NONE);
    setAttribute(origin, 'data-origin', a?.origin ?? 'none');
    setText(cells.epoch, number(s?.epoch));
    setText(cells.handover, s?.handover ? s.handover + (s.trainer ? ` · ${s.trainer}` : '') : NONE);
    setText(cells.moved, bytes(s?.moved_bytes));
  } };
}

/** `on.sort(column)`, `on.open(id)`. Returns {e, update(devices in order, view, now,
 * newest)}; the order is an array that stays the same one while it stays, `newest(device)` what is known of it by now. */
export function fleetTable(on) {
  const above = h('tr', { class: 'space', 'aria-hidden': 'true' }, h('td'));
  const below = h('tr', { class: 'space', 'aria-hidden': 'true' }, h('td'));
  const body = h('tbody', {}, above, below);
  const buttons = {}, heads = HEADS.map(([name, text]) => {
    buttons[name] = h('button', { type: 'button', onclick: () => on.sort(name) }, text);
    return h('th', { scope: 'col', class: `c-${name}` }, buttons[name]);
  });
  const table = h('table', { class: 'fleet', 'aria-describedby': 'table-help' }, h('caption', { class: 'hidden' }, 'Devices of the fleet'), h('thead', {}, h('tr', { 'aria-rowindex': 1 }, ...heads)), body);
  const e = h('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Devices' }, table);
  let devices = [], latest = (d) => d, pool = [], rowPx = 40, seen = 0, now = 0, current = null, firstShown = -1;
  let scrolled = 0; // px; to ask the element would have the browser lay out what has just been written

  const indexOf = (id) => devices.findIndex((d) => d.id === id);

  function measure() {
    rowPx = parseFloat(getComputedStyle(e).getPropertyValue('--row')) || 40;
    seen = Math.ceil(e.clientHeight / rowPx);
    const need = Math.min(devices.length, seen + 2 * SPARE_ROWS);
    while (pool.length > need) pool.pop().e.remove();
    while (pool.length < need) pool.push(makeRow(on.open));
    firstShown = -1;
  }

  function show() {
    if (pool.length !== Math.min(devices.length, seen + 2 * SPARE_ROWS)) measure();
    const n = pool.length, first = Math.max(0, Math.min(devices.length - n, Math.floor(scrolled / rowPx) - SPARE_ROWS));
    if (first !== firstShown) {
      const focused = document.activeElement, order = [];
      for (let i = first; i < first + n; i++) order.push(pool[i % n].e);
      // What has focus is about another device now: the table has it instead, and goes on from where it was.
      const lost = pool.find((r) => r.link === focused && (r.index < first || r.index >= first + n));
      if (lost) e.focus({ preventScroll: true });
      order.forEach((row, i) => {
        if (body.children[i + 1] !== row) body.insertBefore(row, body.children[i + 1]);
      });
      above.firstChild.style.height = `${first * rowPx}px`;
      below.firstChild.style.height = `${(devices.length - first - n) * rowPx}px`;
      firstShown = first;
    }
    for (let i = first; i < first + n; i++) pool[i % n].update(latest(devices[i]), i, now);
    const at = current === null ? 0 : indexOf(current);
    for (const r of pool) setAttribute(r.link, 'tabindex', r.index === Math.max(at, 0) ? 0 : -1);
  }

  /** Moves to a row, scrolls it into view below the heads, and gives it focus. */
  function go(index) {
    if (!devices.length) return;
    const at = Math.max(0, Math.min(devices.length - 1, index)), head = table.tHead.offsetHeight;
    current = devices[at].id;
    const top = at * rowPx, room = e.clientHeight - head - rowPx;
    if (top < e.scrollTop) e.scrollTop = top;
    else if (top > e.scrollTop + room) e.scrollTop = top - room;
    scrolled = e.scrollTop;
    show();
    pool[at % pool.length].link.focus({ preventScroll: true });
  }

  e.addEventListener('keydown', (ev) => {
    if (ev.ctrlKey || ev.altKey || ev.metaKey || ev.target.tagName === 'BUTTON') return;
    const at = current === null ? -1 : indexOf(current), page = Math.max(1, seen - 2);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: devices.length - 1 }[ev.key];
    if (to === undefined) return;
    ev.preventDefault();
    go(to);
  });
  e.addEventListener('focusin', (ev) => {
    if (ev.target.tagName === 'A') current = ev.target.textContent;
  });
  e.addEventListener('scroll', () => {
    scrolled = e.scrollTop;
    show();
  }, { passive: true });
  new ResizeObserver(() => {
    measure();
    show();
  }).observe(e);

  return { e, update(list, view, at, newest) {
    const reordered = list !== devices;
    const focused = pool.some((r) => r.link === document.activeElement);
    [devices, now, latest] = [list, at, newest];
    setAttribute(table, 'aria-rowcount', devices.length + 1);
    heads.forEach((th, i) => setAttribute(th, 'aria-sort', HEADS[i][0] !== view.column ? null : view.up ? 'ascending' : 'descending'));
    if (reordered) firstShown = -1;
    show();
    if (reordered && focused) { // the order has changed beneath it
      const row = pool.find((r) => r.device?.id === current);
      (row ? row.link : e).focus({ preventScroll: true });
    }
  } };
}
