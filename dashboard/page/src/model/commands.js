// What an operator may ask of devices: docs/protocol.md, "Commands". Pure.

const HASH = /^[0-9a-f]{64}$/;

/** name -> {text, fields: [{name, label, required, kind}], harm?: asked before it is sent} */
export const COMMANDS = {
  status: { text: 'Status', fields: [] },
  ping: { text: 'Ping', fields: [] },
  train: { text: 'Train now', fields: [{ name: 'epochs', label: 'Epochs', kind: 'int', required: false }] },
  handover: { text: 'Hand over now', fields: [] },
  evaluate: { text: 'Evaluate', fields: [{ name: 'checkpoint', label: 'Checkpoint (64 hex digits; none: the active one)', kind: 'hash', required: false },
    { name: 'split', label: 'Images', kind: ['validation', 'test', 'train'], required: false }] },
  pause: { text: 'Pause training', fields: [] },
  resume: { text: 'Resume training', fields: [] },
  pin: { text: 'Pin a checkpoint', fields: [{ name: 'checkpoint', label: 'Checkpoint (64 hex digits)', kind: 'hash', required: true }] },
  unpin: { text: 'Unpin', fields: [] },
  rollback: { text: 'Roll back to the previous checkpoint', fields: [] },
  set: { text: 'Set a key until restart', fields: [{ name: 'key', label: 'Key', kind: 'text', required: true }, { name: 'value', label: 'Value', kind: 'text', required: true }] },
};

const EPOCHS_MOST = 1000000, TEXT_MOST = 200;

/** {command} to be sent, or {error, field} in words for whoever filled in the form. */
export function makeCommand(device, cmd, values) {
  const command = { device, cmd };
  for (const f of COMMANDS[cmd].fields) {
    const value = (values[f.name] ?? '').trim(), wrong = (what) => ({ error: `${f.label.replace(/ \(.*/, '')}: ${what}`, field: f.name });
    if (value === '') {
      if (f.required) return wrong('is needed');
    } else if (f.kind === 'int') {
      if (!/^[0-9]{1,7}$/.test(value) || +value < 1 || +value > EPOCHS_MOST) return wrong(`found ${value}, expected a whole number from 1 to ${EPOCHS_MOST}`);
      command[f.name] = +value;
    } else if (f.kind === 'hash' && !HASH.test(value)) {
      return wrong('expected 64 lower-case hex digits');
    } else if (value.length > TEXT_MOST) {
      return wrong(`expected at most ${TEXT_MOST} characters`);
    } else {
      command[f.name] = value;
    }
  }
  return { command };
}
