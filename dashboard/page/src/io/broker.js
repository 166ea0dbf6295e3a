// The connection to the broker, through the gateway; the only door to mqtt.js. It reads, and publishes nothing.

import mqtt from 'mqtt';

const RETRY_FIRST_MS = 1000, RETRY_MOST_MS = 30e3;
const CONNECT_MS = 10e3;
const KEEPALIVE_S = 30;
const LARGEST_PACKET = 70 * 1024; // a history, and its topic

/**
 * Connects, and again whenever the connection is lost: after a second, doubling to half a minute, and a random part of it.
 * `on.message(topic, bytes)`, `on.state({name: 'connecting'|'connected'|'waiting', until?: ms since 1970})`.
 */
export function connectBroker(filters, on) {
  const url = new URL('mqtt', document.baseURI);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  const wanted = new Set(filters);
  let failures = 0, timer = 0;
  const client = mqtt.connect(url.href, {
    protocolVersion: 5, clean: true, keepalive: KEEPALIVE_S, connectTimeout: CONNECT_MS, manualConnect: true, reconnectPeriod: 0, resubscribe: false,
    // The other timers of mqtt.js are a worker made of text, which the page's policy forbids.
    timerVariant: 'native',
    clientId: `page-${crypto.getRandomValues(new Uint32Array(2)).join('-')}`,
    properties: { maximumPacketSize: LARGEST_PACKET, requestProblemInformation: true },
  });
  // QoS 0: what is lost on the way to a page that cannot keep up is made good by the next status.
  const ask = (topics) => client.subscribe(topics, { qos: 0 }, () => {});

  function again() {
    clearTimeout(timer);
    on.state({ name: 'connecting' });
    client.reconnect();
  }
  client.on('message', (topic, payload) => on.message(topic, payload));
  client.on('connect', () => {
    failures = 0;
    ask([...wanted]);
    on.state({ name: 'connected' });
  });
  client.on('close', () => {
    const most = Math.min(RETRY_MOST_MS, RETRY_FIRST_MS * 2 ** failures++), wait = most / 2 + (Math.random() * most) / 2;
    clearTimeout(timer);
    timer = setTimeout(again, wait);
    on.state({ name: 'waiting', until: Date.now() + wait });
  });
  client.on('error', () => {}); // `close` follows
  on.state({ name: 'connecting' });
  client.connect();
  return {
    subscribe(topic) {
      wanted.add(topic);
      if (client.connected) ask([topic]);
    },
    unsubscribe(topic) {
      wanted.delete(topic);
      if (client.connected) client.unsubscribe(topic, () => {});
    },
    retryNow() {
      if (!client.connected && timer) again();
    },
  };
}
