// The page: one state, one view at a time, one loop. What comes waits in the inbox; each frame works off a slice of it and then has the view
// show what is new, so that no frame takes long however much comes, and nothing is drawn that nobody sees.

import { connectBroker } from './io/broker.js';
import { loadSite } from './io/gateway.js';
import { decode } from './model/message.js';
import { makeInbox } from './model/inbox.js';
import { apply, expire, makeState } from './model/store.js';
import { fleetFilters, historyTopic, isId, parseTopic } from './model/topic.js';
import { byId, h, setAttribute, setText } from './view/dom.js';
import { commands, commandsView } from './view/commands.js';
import { deviceView } from './view/device.js';
import { edgeView } from './view/edge.js';
import { fleetView } from './view/fleet.js';

const SLICE_MS = 12; // of a frame, to look into messages
const TICK_MS = 1000; // ages go on, and what is over goes
const SITE_AGAIN_MS = 3000;
const REST_MS = 50; // until what a view has not shown yet is tried again

const state = makeState(), inbox = makeInbox(), kept = {};
let site = null, broker = null, view = null, connection = { name: 'connecting' }, watched = null, frame = 0, rest = 0, news = true;

function wake() {
  frame ||= requestAnimationFrame(paint);
}

function take(topic, bytes) {
  const m = parseTopic(site.site, topic);
  if (m) apply(state, m, decode(m.kind, bytes), Date.now());
}

function paint() {
  frame = 0;
  clearTimeout(rest);
  news ||= inbox.size > 0;
  const end = performance.now() + SLICE_MS;
  inbox.drain(take, () => performance.now() > end);
  if (view?.update(state, Date.now(), connection.name, news)) rest = setTimeout(wake, REST_MS);
  news = false;
  setText(byId('refused'), state.refused ? `${state.refused} messages were not understood` : '');
  if (inbox.size) wake();
}

function showConnection() {
  const e = byId('connection'), s = connection.name === 'waiting' ? Math.max(0, Math.ceil((connection.until - Date.now()) / 1000)) : 0;
  setAttribute(e, 'data-state', connection.name);
  setText(byId('connection-text'), connection.name === 'connected' ? 'Live' : connection.name === 'connecting' ? 'Connecting …' : 'No connection');
  setText(byId('again'), connection.name === 'waiting' ? `again in ${s} s` : ''); // each second: not for who listens
  byId('retry').hidden = connection.name !== 'waiting';
  byId('away').hidden = connection.name !== 'waiting';
}

/** Subscribes to the history of the device that is looked at, and to no other. */
function watch(device) {
  if (device === watched) return;
  if (watched !== null) broker.unsubscribe(historyTopic(site.site, watched));
  watched = device;
  state.history = null;
  if (device !== null) broker.subscribe(historyTopic(site.site, device));
}

function makeView() {
  const [, where, id] = location.hash.split('/');
  if (where === 'device' && isId(id)) {
    watch(id);
    return deviceView(id, { classes: site.classes, form: site.operator ? commands(id) : null });
  }
  watch(null);
  if (where === 'edge') return edgeView();
  if (where === 'commands' && site.operator) return commandsView();
  return fleetView(kept, { wake, open: (device) => { location.hash = `#/device/${device}`; } });
}

function route(first) {
  view?.close();
  view = makeView();
  byId('main').replaceChildren(view.e);
  document.title = `${view.title} – Tasuki ${site.site}`;
  for (const a of document.querySelectorAll('nav a')) setAttribute(a, 'aria-current', a.getAttribute('href') === (location.hash || '#/') ? 'page' : null);
  view.update(state, Date.now(), connection.name, true);
  if (!first) {
    scrollTo(0, 0);
    view.e.querySelector('h1').focus();
  }
  wake();
}

async function start() {
  try {
    site = await loadSite();
  } catch (e) {
    byId('main').replaceChildren(h('div', { class: 'view' }, h('h1', {}, 'The gateway does not answer'), h('p', { class: 'note' }, `${e.message}. The page tries again.`)));
    setTimeout(start, SITE_AGAIN_MS);
    return;
  }
  setText(byId('site'), site.site);
  setText(byId('version'), `Tasuki ${site.version}`);
  byId('nav-commands').hidden = !site.operator;
  broker = connectBroker(fleetFilters(site.site), {
    message(topic, bytes) {
      inbox.put(topic, bytes);
      wake();
    },
    state(s) {
      connection = s;
      news = true;
      showConnection();
      wake();
    },
  });
  byId('retry').addEventListener('click', () => broker.retryNow());
  byId('skip').addEventListener('click', (ev) => { // its address is not one of a view
    ev.preventDefault();
    byId('main').focus();
  });
  addEventListener('hashchange', () => route(false));
  addEventListener('online', () => broker.retryNow());
  route(true);
  setInterval(() => {
    expire(state, Date.now());
    showConnection();
    news = true;
    if (!document.hidden) wake();
  }, TICK_MS);
}

start();
