// Accuracy over time by origin, with swaps; the only door to uPlot. Colours are the style sheet's, so that dark and light mode reach it.

import uPlot from 'uplot';
import { h } from './dom.js';
import { moment, percent, tickTimes } from '../model/format.js';
import { columns } from '../model/learning.js';

const HEIGHT_PX = 300, TICK_PX = 90; // of a label and what is between two
const RING_PX = 6, POINT_PX = 7;
const MARGIN_S = 60; // of a chart of one moment

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** A line down from each swap, and a ring around it. */
function drawSwaps(u, c) {
  const { ctx } = u, px = devicePixelRatio;
  ctx.save();
  for (const i of c.swaps) {
    const x = u.valToPos(c.xs[i], 'x', true), y = u.valToPos(c.in_use[i], 'y', true);
    ctx.strokeStyle = colour('in-use');
    ctx.lineWidth = px;
    ctx.setLineDash([3 * px, 3 * px]);
    ctx.beginPath();
    ctx.moveTo(x, y + RING_PX * px);
    ctx.lineTo(x, u.bbox.top + u.bbox.height);
    ctx.stroke();
    ctx.strokeStyle = colour('swap');
    ctx.lineWidth = 1.5 * px;
    ctx.setLineDash([]);
    ctx.beginPath();
    ctx.arc(x, y, RING_PX * px, 0, 2 * Math.PI);
    ctx.stroke();
  }
  ctx.restore();
}

function options(c, width) {
  const axis = { stroke: colour('muted'), grid: { stroke: colour('line'), width: 1 }, ticks: { stroke: colour('line'), width: 1 } };
  const dot = (name) => ({ label: name, stroke: colour(`origin-${name}`), width: 0, paths: () => null, points: { show: true, size: POINT_PX, fill: colour(`origin-${name}`), width: 0 } });
  return {
    width, height: HEIGHT_PX, legend: { show: false }, cursor: { show: false }, padding: [12, 12, 0, 0],
    scales: { x: { range: (_, a, b) => (a === b ? [a - MARGIN_S, b + MARGIN_S] : [a - (b - a) * 0.02, b + (b - a) * 0.02]) },
      y: { range: (_, a, b) => [Math.max(0, Math.floor(a * 10 - 0.2) / 10), Math.min(1.02, Math.ceil(b * 10 + 0.1) / 10 + 0.02)] } },
    axes: [{ ...axis, space: TICK_PX, values: (_, ticks, __, ___, step) => tickTimes(ticks, step) }, { ...axis, size: 56, values: (_, ticks) => ticks.map((t) => (t > 1.0001 ? '' : percent(t, 0))) }],
    series: [{}, { label: 'in use', stroke: colour('in-use'), width: 2, points: { show: false }, paths: uPlot.paths.stepped({ align: 1 }) }, ...c.origins.map(dot)],
    hooks: { draw: [(u) => drawSwaps(u, c)] },
  };
}

const describe = (c) => {
  const last = c.points.at(-1);
  return `Accuracy on validation images: ${c.points.length} checkpoints, ${c.swaps.length} swaps, ${c.in_use.at(-1) === null ? '' : `in use ${percent(c.in_use.at(-1))}, `}last ${percent(last.correct / last.n)} (${last.origin}).`;
};

function legend(c) {
  return h('ul', { class: 'legend' }, h('li', {}, h('span', { class: 'key key-in-use' }), 'in use'), h('li', {}, h('span', { class: 'key key-swap' }), 'swap'),
    ...c.origins.map((o) => h('li', {}, h('span', { class: 'key key-dot', 'data-origin': o }), o)));
}

function dataTable(c) {
  const rows = c.points.map((p) => h('tr', {}, h('td', {}, moment(p.at)), h('td', {}, String(p.epoch)), h('td', {}, p.origin), h('td', {}, percent(p.correct / p.n)), h('td', {}, `${p.correct} of ${p.n}`),
    h('td', {}, p.swap ? 'swapped in' : ''), h('td', {}, h('code', {}, p.checkpoint)))).reverse();
  const heads = ['Time', 'Epoch', 'From', 'Accuracy', 'Right', 'Swap', 'Checkpoint'].map((t) => h('th', { scope: 'col' }, t));
  return h('div', { class: 'scroll-x', tabindex: 0, role: 'region', 'aria-label': 'Scores as a table' }, h('table', { class: 'data' }, h('thead', {}, h('tr', {}, ...heads)), h('tbody', {}, ...rows)));
}

/** {e, update(history or null)}; `update` draws only what is new. */
export function learningChart() {
  const plot = h('div', { class: 'plot', role: 'img' }), below = h('div', {}), rows = h('div', {});
  const details = h('details', { ontoggle: () => fillRows() }, h('summary', {}, 'Scores as a table'), rows);
  const empty = h('p', { class: 'empty' }, 'No scores yet: the device sends them once it has some.');
  const e = h('div', {}, empty, plot, below, details);
  let u = null, shown, c = null;

  function fillRows() { // 256 rows are made only for whoever looks
    rows.replaceChildren(...(details.open && c ? [dataTable(c)] : []));
  }
  function draw() {
    u?.destroy();
    u = c && plot.clientWidth ? new uPlot(options(c, plot.clientWidth), [c.xs, c.in_use, ...c.ys], plot) : null;
  }
  const resized = new ResizeObserver(() => {
    if (c && (!u || u.width !== plot.clientWidth)) draw();
  });
  resized.observe(plot);
  const dark = matchMedia('(prefers-color-scheme: dark)');
  dark.addEventListener('change', draw);
  return { e,
    update(history) {
      if (history === shown) return;
      shown = history;
      c = history?.points.length ? columns(history.points) : null;
      empty.hidden = c !== null;
      plot.hidden = below.hidden = details.hidden = c === null;
      if (c) {
        plot.setAttribute('aria-label', describe(c));
        below.replaceChildren(legend(c));
      }
      fillRows();
      draw();
    },
    close() {
      resized.disconnect();
      dark.removeEventListener('change', draw);
      u?.destroy();
    } };
}
