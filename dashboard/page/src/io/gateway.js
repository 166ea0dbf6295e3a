// What the gateway answers over HTTP: its site, and an operator's login and commands.

import { answers, site } from '../model/message.js';

const SITE_MS = 10e3;

async function post(path, body) {
  return fetch(path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body), credentials: 'same-origin' });
}

/** The site; an error says what is wrong. */
export async function loadSite() {
  const r = await fetch('site.json', { cache: 'no-store', signal: AbortSignal.timeout(SITE_MS) });
  const s = r.ok ? site(await r.json()) : undefined;
  if (!s) throw new Error(`site.json: ${r.ok ? 'not what a gateway says' : `status ${r.status}`}`);
  return s;
}

/** null, or why not. */
export async function login(password) {
  try {
    const r = await post('login', { password });
    if (r.ok) return null;
    if (r.status === 429) return 'Too many tries. Wait a minute, then try again.';
    return r.status === 403 ? 'This is not the operators’ password.' : `The gateway refused (status ${r.status}).`;
  } catch {
    return 'The gateway does not answer.';
  }
}

export const logout = () => post('logout', {}).catch(() => {});

/** {answers: [...]}, {login: true} where the gateway wants a password first, or {error: text}. */
export async function send(command) {
  try {
    const r = await post('command', command);
    if (r.status === 401 || r.status === 403) return { login: true };
    const body = await r.json().catch(() => null);
    if (!r.ok) return { error: typeof body?.error === 'string' ? body.error.slice(0, 300) : `The gateway refused (status ${r.status}).` };
    const understood = answers(body?.answers);
    return understood ? { answers: understood } : { error: 'The gateway’s answer was not understood.' };
  } catch {
    return { error: 'The gateway does not answer.' };
  }
}
