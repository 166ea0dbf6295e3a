// One device: what it says of itself, how it learns, what it mixes up, and its handover.

import { badge, h, progress, setBadge, setText } from './dom.js';
import { learningChart } from './chart.js';
import { confusionView } from './matrix.js';
import { jobList } from './handovers.js';
import { NONE, ago, bytes, moment, movedShare, number, percent, short } from '../model/format.js';
import { deviceState, jobs, online } from '../model/store.js';

const JOBS_SHOWN = 8;

const FACTS = [
  ['Reason', (s) => s.reason || NONE], ['Epoch', (s) => number(s.epoch)], ['Loss', (s) => number(s.loss, 4)], ['Images a second', (s) => number(s.images_per_second)],
  ['Active checkpoint', (s) => (s.active ? `${short(s.active.checkpoint)} (${s.active.origin}${s.active.pinned ? ', pinned' : ''})` : 'none')],
  ['Accuracy', (s) => percent(s.active?.accuracy)],
  ['Handover', (s) => (s.handover ? s.handover + (s.trainer ? `, with ${s.trainer}` : '') : 'none')], ['Moved', (s) => `${bytes(s.moved_bytes)}${s.data_bytes && s.moved_bytes !== null ? `, ${movedShare(s.moved_bytes, s.data_bytes)}` : ''}`],
  ['Its images', (s) => `${bytes(s.data_bytes)}${s.skipped_images ? `, ${number(s.skipped_images)} files skipped` : ''}`], ['Free disk', (s) => bytes(s.disk_free_bytes)],
  ['Agent', (s) => `version ${s.agent}, start number ${number(s.boot)}`], ['Status of', (s, now) => `${moment(s.at)} (${ago(s.at, now)} ago)`],
];

function facts() {
  const values = FACTS.map(() => h('dd')), e = h('dl', { class: 'facts' }, ...FACTS.map(([title], i) => h('div', {}, h('dt', {}, title), values[i])));
  return { e, update: (status, now) => FACTS.forEach(([, value], i) => {
    setText(values[i], status ? value(status, now) : NONE);
    values[i].parentNode.hidden = values[i].textContent === NONE;
  }) };
}

/** A view of `id`; `form`: of commands to it, or null. */
export function deviceView(id, { classes, form }) {
  const state = badge('unknown'), share = progress('Training'), table = facts(), chart = learningChart(), matrix = confusionView(classes);
  const list = jobList(JOBS_SHOWN, { withDevice: false }), missing = h('p', { class: 'empty' }, 'Nothing has been heard of this device.');
  const section = (name, title, ...children) => h('section', { 'aria-labelledby': name, class: 'panel' }, h('h2', { id: name }, title), ...children);
  const e = h('div', { class: 'view' }, h('p', { class: 'crumb' }, h('a', { href: '#/' }, 'Fleet')),
    h('div', { class: 'head' }, h('h1', { tabindex: -1 }, id), state, share.e), missing,
    h('div', { class: 'panels' },
      h('div', { class: 'column' }, section('p-learning', 'Accuracy on validation images', chart.e), section('p-confusion', 'What it mixes up', matrix.e)),
      h('div', { class: 'column' }, section('p-status', 'Status', table.e), section('p-handover', 'Handovers', list.e), form ? section('p-commands', 'Commands', form.e) : null)));
  matrix.e.parentNode.classList.add('last'); // of the panels of a narrow screen
  return { e, title: id, close: () => chart.close(),
    update(s, now) {
      const d = s.devices.get(id) ?? null, history = s.history?.device === id ? s.history : null;
      missing.hidden = d !== null;
      setBadge(state, d ? deviceState(d) : 'unknown');
      const moving = d !== null && d.status !== null && d.status.progress !== null && online(d) !== false;
      share.e.hidden = !moving;
      if (moving) share.set(d.status.progress);
      table.update(d?.status ?? null, now);
      chart.update(history);
      matrix.update(history?.confusion ?? null);
      list.update(jobs(s, id), now);
    } };
}
