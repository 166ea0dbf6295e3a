// An operator's form: login, a command to a device or to all, and what they answer.

import { h } from './dom.js';
import { COMMANDS, makeCommand } from '../model/commands.js';
import { isId } from '../model/topic.js';
import { login, logout, send } from '../io/gateway.js';

const ANSWERS_SHOWN = 200;
let loggedIn = null; // whether the gateway took the password, null: not known; it asks for one when it wants one

const field = (id, label, input) => h('div', { class: 'field' }, h('label', { for: id }, label), input);

function loginForm(done) {
  const password = h('input', { type: 'password', id: 'password', autocomplete: 'current-password', required: true, maxlength: 256 });
  const said = h('p', { class: 'error', role: 'alert' }), button = h('button', { type: 'submit' }, 'Log in');
  const submit = async (ev) => {
    ev.preventDefault();
    button.disabled = true;
    const why = await login(password.value);
    button.disabled = false;
    password.value = '';
    said.textContent = why ?? '';
    if (why === null) done();
    else password.focus();
  };
  return h('form', { class: 'command', onsubmit: submit }, h('p', { class: 'note' }, 'Commands are sent as this site’s operator.'), h('input', { type: 'text', autocomplete: 'username', value: 'operator', hidden: true, readonly: true }), field('password', 'Operators’ password', password), button, said);
}

function input(f) {
  const id = `c-${f.name}`;
  if (Array.isArray(f.kind)) return h('select', { id, name: f.name }, ...f.kind.map((v) => h('option', { value: v }, v)));
  return h('input', { id, name: f.name, type: 'text', inputmode: f.kind === 'int' ? 'numeric' : null, maxlength: 200, autocomplete: 'off', spellcheck: 'false', 'aria-required': f.required ? 'true' : null });
}

function answerItem(a) {
  const members = a.members.flatMap(([k, v]) => [h('dt', {}, k.replaceAll('_', ' ')), h('dd', {}, v)]);
  return h('li', { 'data-ok': a.ok ? 'yes' : 'no' }, h('p', {}, h('strong', {}, a.device ?? 'device'), a.ok ? ': done' : `: ${a.error ?? 'refused'}`), ...(members.length ? [h('dl', {}, ...members)] : []));
}

function answerList(answers) {
  const failed = answers.filter((a) => !a.ok), shown = [...failed, ...answers.filter((a) => a.ok)].slice(0, ANSWERS_SHOWN);
  const line = answers.length === 0 ? 'Nobody has answered.' : answers.length === 1 ? '1 answer' : `${answers.length} answers, ${failed.length} of them refused it`;
  return [h('p', {}, line), h('ul', { class: 'answers' }, ...shown.map(answerItem)), ...(answers.length > shown.length ? [h('p', { class: 'note' }, `and ${answers.length - shown.length} more`)] : [])];
}

function commandForm(device, askLogin, leave) {
  const cmd = h('select', { id: 'cmd', onchange: () => fill() }, ...Object.entries(COMMANDS).map(([k, c]) => h('option', { value: k }, c.text)));
  const to = device === null ? h('input', { id: 'to', type: 'text', placeholder: 'cam-1, or * for all', maxlength: 64, autocomplete: 'off', spellcheck: 'false', 'aria-required': 'true' }) : null;
  const fields = h('div', { class: 'fields' }), said = h('p', { class: 'error', role: 'alert' }), answers = h('div', { class: 'outcome', role: 'status' });
  const sure = h('input', { type: 'checkbox', id: 'sure' }), sureField = h('div', { class: 'field check' }, sure, h('label', { for: 'sure' }, 'Yes, to every device of the fleet'));
  const button = h('button', { type: 'submit' }, 'Send');
  const fill = () => fields.replaceChildren(...COMMANDS[cmd.value].fields.map((f) => field(`c-${f.name}`, f.label + (f.required ? '' : ' (optional)'), input(f))));
  const fail = (text, e) => {
    said.textContent = text;
    for (const x of form.querySelectorAll('[aria-invalid]')) x.removeAttribute('aria-invalid');
    e?.setAttribute('aria-invalid', 'true');
    e?.focus();
  };
  const allOf = () => { sureField.hidden = to?.value.trim() !== '*'; };
  const submit = async (ev) => {
    ev.preventDefault();
    const target = device ?? to.value.trim();
    if (target !== '*' && !isId(target)) return fail('Device: expected its id, or * for all', to);
    if (target === '*' && !sure.checked) return fail('To every device: tick the box first', sure);
    const values = Object.fromEntries([...fields.querySelectorAll('input, select')].map((x) => [x.name, x.value]));
    const made = makeCommand(target, cmd.value, values);
    if (made.error) return fail(made.error, fields.querySelector(`[name=${made.field}]`));
    fail('');
    button.disabled = true;
    answers.replaceChildren(h('p', { class: 'note' }, 'Sent; waiting for the answer …'));
    const began = performance.now(), r = await send(made.command);
    button.disabled = false;
    sure.checked = false;
    answers.dataset.ms = Math.round(performance.now() - began);
    answers.replaceChildren(...(r.answers ? answerList(r.answers) : []));
    if (r.login) return askLogin();
    return r.error ? fail(r.error) : undefined;
  };
  const form = h('form', { class: 'command', novalidate: true, onsubmit: submit }, to ? field('to', 'Device', to) : null, field('cmd', 'Command', cmd), fields, to ? sureField : null,
    h('div', { class: 'buttons' }, button, h('button', { type: 'button', class: 'quiet', onclick: leave }, 'Log out')), said, answers);
  to?.addEventListener('input', allOf);
  allOf();
  fill();
  return form;
}

/** {e}: to `device`, or to whichever is written. */
export function commands(device = null) {
  const e = h('div');
  const show = (focus) => {
    const ask = () => { loggedIn = false; show(true); };
    const leave = async () => { await logout(); ask(); };
    e.replaceChildren(loggedIn ? commandForm(device, ask, leave) : loginForm(() => { loggedIn = true; show(true); }));
    if (focus) e.querySelector('input, select').focus();
  };
  show(false);
  return { e };
}

export function commandsView() {
  const form = commands();
  return { e: h('div', { class: 'view' }, h('h1', { tabindex: -1 }, 'Commands'), h('section', { class: 'panel', 'aria-label': 'Command' }, form.e)), title: 'Commands', update() {}, close() {} };
}
