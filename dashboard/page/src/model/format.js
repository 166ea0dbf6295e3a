// Values as people read them. Pure; `null` is an en dash.

export const NONE = '–';

export const percent = (x, digits = 1) => (x === null || x === undefined ? NONE : `${(100 * x).toFixed(digits)} %`);

/** Bytes with three digits, in powers of 1000. */
export function bytes(n) {
  if (n === null || n === undefined) return NONE;
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let i = 0;
  while (n >= 999.5 && i < units.length - 1) [n, i] = [n / 1000, i + 1];
  return `${i === 0 ? n : n.toPrecision(3).replace(/\.0+$|(\.\d*[1-9])0+$/, '$1')} ${units[i]}`;
}

// Made once for each number of digits: to make one takes longer than to use it a hundred times.
const FORMATS = [0, 1, 2, 3, 4].map((digits) => new Intl.NumberFormat('en', { maximumFractionDigits: digits }));

/** With `digits` (at most 4) behind the point, and none that are 0. */
export const number = (x, digits = 0) => (x === null || x === undefined ? NONE : FORMATS[digits].format(x));

/** How long ago; a clock that is ahead is no time ago. */
export function ago(ms, now) {
  if (ms === null || ms === undefined) return NONE;
  const s = Math.max(0, Math.round((now - ms) / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  return s < 86400 * 2 ? `${Math.floor(s / 3600)} h` : `${Math.floor(s / 86400)} d`;
}

const pad = (n) => String(n).padStart(2, '0');

/** A moment in the reader's own time, to the second. */
export function moment(ms) {
  if (ms === null || ms === undefined) return NONE;
  const d = new Date(ms);
  return `${d.getFullYear()}-${pad(d.getMonth() + 1)}-${pad(d.getDate())} ${pad(d.getHours())}:${pad(d.getMinutes())}:${pad(d.getSeconds())}`;
}

export const short = (hash) => (hash ? hash.slice(0, 12) : NONE);

/** What was moved beside what would have been moved as images. */
export function movedShare(moved, data) {
  if (!moved && moved !== 0 || !data) return NONE;
  const share = moved / data;
  return share >= 10 ? `${number(share)} times the images` : `${percent(share, share < 0.1 ? 1 : 0)} of the images`;
}

export const className = (classes, i) => classes[i] ?? `class ${i}`;
