// Handovers as trainers tell of them: who, where it is, how far.

import { badge, h, keyed, progress, setBadge, setText } from './dom.js';
import { NONE, ago, percent } from '../model/format.js';

function gain(job) {
  if (!job.before) return '';
  return job.after ? `${percent(job.before.accuracy)} → ${percent(job.after.accuracy)} at the edge` : `${percent(job.before.accuracy)} at the edge before`;
}

function makeJob(job, withDevice) {
  const bar = progress(`${job.device} at ${job.trainer}`), state = badge(job.phase), detail = h('span', { class: 'detail' });
  const name = withDevice ? h('a', { href: `#/device/${job.device}` }, job.device) : h('span', {}, job.trainer);
  const e = h('li', { class: 'job' }, h('span', { class: 'who' }, name, withDevice ? h('span', { class: 'note' }, ` at ${job.trainer}`) : ''), state, bar.e, detail);
  return { e, update(j) {
    setBadge(state, j.phase);
    bar.set(j.progress);
    const epochs = j.phase === 'training' || j.phase === 'merging' ? `epoch ${j.epoch} of ${j.epochs}` : '';
    setText(detail, [epochs, gain(j), j.images_per_second ? `${Math.round(j.images_per_second)} images/s` : '', `heard ${ago(j.heard, j.now)} ago`].filter(Boolean).join(' · '));
  } };
}

/** {e, update(jobs, now)}; at most `most` of them. */
export function jobList(most, { withDevice }) {
  const list = h('ul', { class: 'jobs' }), note = h('p', { class: 'empty' });
  const render = keyed(list, (j) => makeJob(j, withDevice));
  return { e: h('div', {}, list, note), update(jobs, now) {
    render(jobs.slice(0, most).map((j) => ({ ...j, now })), (j) => `${j.trainer}/${j.device}`);
    setText(note, jobs.length === 0 ? 'None that a trainer has told of.' : jobs.length > most ? `and ${jobs.length - most} more` : '');
    note.hidden = jobs.length > 0 && jobs.length <= most;
  } };
}

export const offerText = (offer) => (offer === null ? NONE : offer.halted ? 'halted' : offer.share === 100 ? 'to all devices' : `to ${offer.share} % of the devices`);
