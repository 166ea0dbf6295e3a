// Checks of values that came from outside. Each takes a value and returns it, or what is made of it, or `undefined` when
// it is not what was expected. Nothing of what they let through is longer than a limit, or is ever used as markup.

import { isId } from './topic.js';

const HASH = /^[0-9a-f]{64}$/;
const SHORT_HASH = /^[0-9a-f]{12}$/;
const WORD = /^[a-z][a-z-]{0,23}$/;
const CONTROL = /[\u0000-\u001f\u007f-\u009f]/;
// Marks that turn the order of what follows: one in a reason could make the page say something else.
const TURNING = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
// Years 2000 to 2100.
const FIRST_MS = Date.UTC(2000, 0), LAST_MS = Date.UTC(2100, 0);

export const when = (x, ok) => (ok ? x : undefined);
export const bool = (x) => when(x, typeof x === 'boolean');
export const int = (least, most) => (x) => when(x, Number.isSafeInteger(x) && x >= least && x <= most);
export const number = (least, most) => (x) => when(x, typeof x === 'number' && x >= least && x <= most);
export const count = int(0, Number.MAX_SAFE_INTEGER);
export const share = number(0, 1);
export const id = (x) => when(x, isId(x));
export const hash = (x) => when(x, typeof x === 'string' && HASH.test(x));
export const shortHash = (x) => when(x, typeof x === 'string' && SHORT_HASH.test(x));
export const word = (x) => when(x, typeof x === 'string' && WORD.test(x));
export const oneOf = (...all) => (x) => when(x, all.includes(x));
export const text = (most) => (x) => (typeof x === 'string' && x.length <= most && !CONTROL.test(x) ? x.replace(TURNING, '') : undefined);

/** RFC 3339 in UTC, as milliseconds since 1970. */
export function time(x) {
  if (typeof x !== 'string' || !/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$/.test(x)) return undefined;
  const ms = Date.parse(x);
  return when(ms, ms >= FIRST_MS && ms <= LAST_MS);
}

/** Seconds since 1970, as milliseconds. */
export const seconds = (x) => when(x * 1000, Number.isSafeInteger(x) && x * 1000 >= FIRST_MS && x * 1000 <= LAST_MS);

/** An array of at most so many, each of which passes. */
export const list = (check, most) => (x) => {
  if (!Array.isArray(x) || x.length > most) return undefined;
  const out = x.map(check);
  return when(out, !out.includes(undefined));
};

export const orNull = (check) => (x) => (x === null ? null : check(x));
/** May be absent, and is `null` then. */
export const optional = (check) => Object.assign((x) => check(x), { optional: true });

/** An object with these members; unknown ones are left out. */
export const object = (members) => (x) => {
  if (typeof x !== 'object' || x === null || Array.isArray(x)) return undefined;
  const out = {};
  for (const [name, check] of Object.entries(members)) {
    if (!Object.hasOwn(x, name)) {
      if (!check.optional) return undefined;
      out[name] = null;
    } else if ((out[name] = check(x[name])) === undefined) {
      return undefined;
    }
  }
  return out;
};
