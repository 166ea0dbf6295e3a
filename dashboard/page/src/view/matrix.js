// A confusion matrix: a row for each true class, a column for each answer, shaded by its share of the row.

import { h } from './dom.js';
import { className, percent } from '../model/format.js';
import { confusionRows, mixUps } from '../model/learning.js';

const WITH_COUNTS = 16; // classes; with more, cells have no room for a number
const MIX_UPS = 5;
const NAME_MOST = 12;

const cut = (name) => (name.length > NAME_MOST ? `${name.slice(0, NAME_MOST - 1)}…` : name);

function cell(row, truth, answer, classes, wide) {
  const share = row.share[answer], text = `${className(classes, truth)} taken for ${className(classes, answer)}: ${row.counts[answer]}`;
  const td = h('td', { class: truth === answer ? 'right' : 'wrong', title: text }, wide ? String(row.counts[answer] || '·') : h('span', { class: 'hidden' }, String(row.counts[answer])));
  td.style.setProperty('--share', share.toFixed(3));
  td.classList.toggle('none', row.counts[answer] === 0);
  return td;
}

function table(confusion, classes) {
  const { rows } = confusionRows(confusion), wide = confusion.classes <= WITH_COUNTS;
  const head = h('tr', {}, h('th', { scope: 'col', class: 'corner' }, 'is \\ taken for'), ...rows.map((_, i) => h('th', { scope: 'col', title: className(classes, i) }, wide ? cut(className(classes, i)) : String(i))));
  const body = rows.map((row, t) => h('tr', {}, h('th', { scope: 'row', title: className(classes, t) }, cut(className(classes, t))), ...row.share.map((_, a) => cell(row, t, a, classes, wide))));
  return h('table', { class: wide ? 'matrix' : 'matrix fine' }, h('caption', { class: 'hidden' }, 'Confusion matrix: true classes in rows, answers in columns'), h('thead', {}, head), h('tbody', {}, ...body));
}

/** {e, update(confusion or null)}. */
export function confusionView(classes) {
  const e = h('div');
  let shown;
  return { e, update(confusion) {
    if (confusion === shown) return;
    shown = confusion;
    if (!confusion) {
      e.replaceChildren(h('p', { class: 'empty' }, 'None yet: it comes with the first active checkpoint, where there are at most 64 classes.'));
      return;
    }
    const { n, correct } = confusionRows(confusion), worst = mixUps(confusion, MIX_UPS);
    const items = worst.map((x) => h('li', {}, `${className(classes, x.truth)} taken for ${className(classes, x.answer)}: ${x.count} (${percent(x.share, 0)})`));
    e.replaceChildren(h('p', { class: 'note' }, `${correct} of ${n} validation images right.`), h('div', { class: 'mixed' },
      h('div', { class: 'scroll-x', tabindex: 0, role: 'region', 'aria-label': 'Confusion matrix' }, table(confusion, classes)),
      items.length ? h('div', { class: 'scroll-x' }, h('p', { class: 'note' }, 'Most often:'), h('ul', { class: 'plain' }, ...items)) : null));
  } };
}
