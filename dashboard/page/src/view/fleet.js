// The first view: the fleet in figures, what to look at, and the table.

import { h, keyed, setText } from './dom.js';
import { fleetTable } from './table.js';
import { bytes, movedShare, number, percent, short } from '../model/format.js';
import { alerts } from '../model/alerts.js';
import { FILTERS, rows, summary } from '../model/rows.js';

const ORDER_MS = 1000; // rows change places no oftener, so that one can be pointed at
const NEW_MS = 100; // new ones are put in that soon
const FIGURES_MS = 250;
const ALERTS_SHOWN = 6;

const FILTER_NAMES = { all: 'All devices', online: 'Online', offline: 'Offline', training: 'Training', waiting: 'Waiting', paused: 'Paused', handover: 'Handing over', pinned: 'Pinned' };

function figures() {
  const tiles = {}, e = h('dl', { class: 'figures' });
  for (const [key, title] of [['online', 'Devices online'], ['training', 'Training'], ['handover', 'Handing over'], ['accuracy', 'Accuracy'], ['moved', 'Moved'], ['offer', 'Rollout']]) {
    tiles[key] = { value: h('span', { class: 'value' }), note: h('span', { class: 'note' }) };
    e.append(h('div', {}, h('dt', {}, title), h('dd', {}, tiles[key].value, tiles[key].note)));
  }
  const set = (key, value, note) => {
    setText(tiles[key].value, value);
    setText(tiles[key].note, note);
  };
  return { e, update(state) {
    const s = summary(state.devices);
    set('online', number(s.online), `of ${number(s.devices)}${s.offline ? `, ${number(s.offline)} offline` : ''}`);
    set('training', number(s.training), s.waiting ? `${number(s.waiting)} waiting` : '');
    set('handover', number(s.handing_over), `${number(state.jobs.size)} at ${number(state.trainers.size)} trainer${state.trainers.size === 1 ? '' : 's'}`);
    set('accuracy', percent(s.accuracy), 'median of active weights');
    set('moved', bytes(s.moved_bytes), movedShare(s.moved_bytes, s.data_bytes));
    const o = state.offer;
    set('offer', o === null ? 'none' : o.halted ? 'halted' : percent(o.share / 100, 0), o === null ? '' : `of devices · ${short(o.id)}`);
  } };
}

function alertList(onFilter) {
  const list = h('ul', { class: 'alerts' });
  const render = keyed(list, (a) => {
    const more = a.device ? h('a', { href: `#/device/${a.device}` }, 'Show') : a.filter ? h('button', { type: 'button', class: 'link', onclick: () => onFilter(a.filter) }, 'Show') : null;
    return { e: h('li', { 'data-level': a.level }, h('span', { class: 'mark', 'aria-hidden': 'true' }, a.level === 'bad' ? '!' : '?'), h('span', {}, a.text), more), update() {} };
  });
  const e = h('section', { 'aria-label': 'Alerts', role: 'status' }, list);
  return { e, update(state, now) {
    const found = alerts(state, now);
    e.hidden = found.length === 0;
    render(found.slice(0, ALERTS_SHOWN), (a) => a.text);
  } };
}

/** A view: {e, title, update(state, now, connection, news), close()}; `update` returns whether some of the news is still to be shown. `kept` is where search, filter and order are remembered between visits. */
export function fleetView(kept, { open, wake }) {
  const view = Object.assign(kept, { search: '', filter: 'all', column: 'device', up: true, ...kept });
  let ordered = -Infinity, sized = 0, figured = -Infinity, list = [], figures_due = true, order_due = true;
  const again = () => {
    ordered = -Infinity;
    order_due = true;
    wake();
  };
  const search = h('input', { type: 'search', id: 'search', placeholder: 'cam-17', autocomplete: 'off', spellcheck: 'false', maxlength: 64, oninput: () => { view.search = search.value; again(); } });
  const filter = h('select', { id: 'filter', onchange: () => { view.filter = filter.value; again(); } }, ...Object.keys(FILTERS).map((f) => h('option', { value: f }, FILTER_NAMES[f])));
  const shown = h('p', { class: 'note', role: 'status' });
  const numbers = figures();
  const warnings = alertList((f) => { filter.value = view.filter = f; again(); });
  const table = fleetTable({ open, sort: (column) => { [view.up, view.column] = [view.column === column ? !view.up : true, column]; again(); } });
  const nothing = h('p', { class: 'empty' });
  [search.value, filter.value] = [view.search, view.filter];
  const e = h('div', { class: 'view fleet-view' }, h('h1', { tabindex: -1 }, 'Fleet'), numbers.e, warnings.e,
    h('form', { class: 'tools', role: 'search', onsubmit: (ev) => ev.preventDefault() }, h('label', { for: 'search' }, 'Search'), search, h('label', { for: 'filter' }, 'Show'), filter, shown),
    h('p', { id: 'table-help', class: 'hidden' }, 'Arrow keys go from device to device, Enter opens one. Heads of columns sort.'), table.e, nothing);
  return { e, title: 'Fleet', close() {},
    update(state, now, said, news) {
      figures_due ||= news;
      order_due ||= news;
      if (figures_due && now - figured >= FIGURES_MS) {
        [figured, figures_due] = [now, false];
        numbers.update(state);
        warnings.update(state, now);
      }
      if (order_due && now - ordered >= (state.devices.size === sized ? ORDER_MS : NEW_MS)) {
        [ordered, sized, order_due] = [now, state.devices.size, false];
        const next = rows(state.devices, view);
        if (next.length !== list.length || next.some((d, i) => d.id !== list[i].id)) list = next;
        setText(shown, list.length === state.devices.size ? `${number(list.length)} devices` : `${number(list.length)} of ${number(state.devices.size)} devices`);
        nothing.hidden = list.length > 0;
        setText(nothing, list.length ? '' : state.devices.size ? 'No device is like that.' : said === 'connected' ? 'No device has said anything yet.' : 'Devices appear as soon as the broker is there.');
        table.e.hidden = list.length === 0;
      }
      table.update(list, view, now, (d) => state.devices.get(d.id) ?? d);
      return figures_due || order_due;
    } };
}
