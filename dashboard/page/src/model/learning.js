// A device's history as what is drawn of it. Pure.

import { ORIGINS } from './message.js';

/** Columns for a chart: xs in seconds (rising), one column for each origin that is there, and which points are swaps. */
export function columns(points) {
  const sorted = points.map((p, i) => [p, i]).sort(([a, i], [b, j]) => a.at - b.at || i - j).map(([p]) => p);
  const present = ORIGINS.filter((o) => sorted.some((p) => p.origin === o));
  return {
    points: sorted, origins: present, xs: sorted.map((p) => p.at / 1000),
    ys: present.map((o) => sorted.map((p) => (p.origin === o ? p.correct / p.n : null))),
    swaps: sorted.flatMap((p, i) => (p.swap ? [i] : [])),
    // What was in use: the accuracy of the last swap up to there.
    in_use: sorted.reduce((ys, p) => [...ys, p.swap ? p.correct / p.n : ys.at(-1) ?? null], []),
  };
}

/** {n, correct, rows: [{n, share: [of the row's n]}]} of a confusion matrix. */
export function confusionRows({ classes, counts }) {
  const out = { n: 0, correct: 0, rows: [] };
  for (let t = 0; t < classes; t++) {
    const row = counts.slice(t * classes, (t + 1) * classes), n = row.reduce((a, b) => a + b, 0);
    out.n += n;
    out.correct += row[t];
    out.rows.push({ n, counts: row, share: row.map((c) => (n ? c / n : 0)) });
  }
  return out;
}

/** The worst mix-ups: [{truth, answer, count, share}], most images first. */
export function mixUps({ classes, counts }, most) {
  const { rows } = confusionRows({ classes, counts });
  const all = rows.flatMap((r, t) => r.counts.map((count, a) => ({ truth: t, answer: a, count, share: r.share[a] })));
  return all.filter((x) => x.truth !== x.answer && x.count).sort((a, b) => b.count - a.count).slice(0, most);
}
