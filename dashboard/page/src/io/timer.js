// Put in the place of the global setTimeout for the whole bundle (esbuild --inject). Browsers make timers of no delay that start each other
// wait for 4 ms, and mqtt.js takes a few of them for each WebSocket message: 2,000 statuses then come in over a second, in which nothing happens.

const channel = new MessageChannel(), due = [];
channel.port1.onmessage = () => due.shift()();

function soon(run, ms = 0, ...args) {
  if (ms > 0) return globalThis.setTimeout(run, ms, ...args);
  due.push(() => run(...args));
  channel.port2.postMessage(null);
  return 0; // nobody takes one back
}

export { soon as setTimeout };
