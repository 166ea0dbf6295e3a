// The edge: trainers with their queues, handovers in flight, and the checkpoint for everyone.

import { badge, h, keyed, setBadge, setText, setWidth } from './dom.js';
import { jobList, offerText } from './handovers.js';
import { ago, bytes, moment, number, percent, short } from '../model/format.js';
import { byName } from '../model/rows.js';
import { jobs, online } from '../model/store.js';

const JOBS_SHOWN = 100;
const WINDOW_SHOWN = 8;

function trainerFacts(s, now) {
  const window = s.window?.length ? [['Waiting to be merged', `${s.window.slice(0, WINDOW_SHOWN).join(', ')}${s.window.length > WINDOW_SHOWN ? ' …' : ''}`]] : [];
  const quarantine = (s.quarantine ?? []).map((q) => ['In quarantine', `${q.device} until ${moment(q.until)}: ${q.why}`]);
  return [['Queue', `${number(s.queued)} waiting, ${number(s.active)} of ${number(s.capacity)} places taken`], ['Devices known', number(s.devices)], ['Handovers so far', number(s.handovers)],
    ['Strategy', s.strategy ?? 'resume'], ['Load', number(s.load, 2)], ...(s.refused ? [['Checkpoints refused', number(s.refused)]] : []), ...(s.reason ? [['Reason', s.reason]] : []),
    ...window, ...quarantine, ['Status of', `${moment(s.at)} (${ago(s.at, now)} ago), version ${s.version}`]];
}

function makeTrainer(t) {
  const state = badge('unknown'), fill = h('span', { class: 'fill' }), list = h('dl', { class: 'facts' });
  const e = h('li', { class: 'panel' }, h('div', { class: 'head' }, h('h3', {}, t.id), state), h('span', { class: 'track queue', 'aria-hidden': 'true' }, fill), list);
  const render = keyed(list, (f) => {
    const dd = h('dd');
    return { e: h('div', {}, h('dt', {}, f.title), dd), update: (g) => setText(dd, g.value) };
  });
  return { e, update(x) {
    setBadge(state, online(x) === null ? 'unknown' : online(x) ? 'online' : 'offline');
    setWidth(fill, x.status?.capacity ? Math.min(1, x.status.active / x.status.capacity) : 0);
    const facts = x.status ? trainerFacts(x.status, x.now) : [['Status', 'none']];
    render(facts.map(([title, value], i) => ({ title, value, i })), (f) => `${f.i} ${f.title}`);
  } };
}

function offerFacts(offer) {
  if (!offer) return [['Rollout', 'Nothing is on offer to the fleet.']];
  return [['Rollout', offerText(offer)], ...(offer.halted ? [['Why', offer.reason ?? 'no reason was given']] : []), ['Checkpoint', short(offer.id)], ['Size', bytes(offer.size)], ['By', offer.trainer],
    ['Made', moment(offer.created)], ...(offer.test ? [['On the trainer’s test images', percent(offer.test.accuracy)]] : [])];
}

export function edgeView() {
  const list = jobList(JOBS_SHOWN, { withDevice: true }), trainers = h('ul', { class: 'trainers' }), none = h('p', { class: 'empty' }, 'No trainer has said anything yet.'), offer = h('dl', { class: 'facts' });
  const render = keyed(trainers, makeTrainer);
  const e = h('div', { class: 'view' }, h('h1', { tabindex: -1 }, 'Trainers and handovers'),
    h('section', { 'aria-labelledby': 'p-jobs', class: 'panel' }, h('h2', { id: 'p-jobs' }, 'Handovers in flight'), list.e),
    h('section', { 'aria-labelledby': 'p-offer', class: 'panel' }, h('h2', { id: 'p-offer' }, 'Checkpoint for everyone'), offer),
    h('section', { 'aria-labelledby': 'p-trainers' }, h('h2', { id: 'p-trainers' }, 'Trainers'), none, trainers));
  let shown;
  return { e, title: 'Trainers and handovers', close() {},
    update(s, now) {
      list.update(jobs(s), now);
      const all = [...s.trainers.values()].sort((a, b) => byName(a.id, b.id));
      none.hidden = all.length > 0;
      render(all.map((t) => ({ ...t, now })), (t) => t.id);
      if (s.offer !== shown) {
        shown = s.offer;
        offer.replaceChildren(...offerFacts(s.offer).map(([title, value]) => h('div', {}, h('dt', {}, title), h('dd', {}, value))));
      }
    } };
}
