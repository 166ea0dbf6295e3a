#!/usr/bin/env python3
"""Man pages and bash completion, made from what there is anyhow: each program's --help, and the example
configurations, which explain every key. So none of them can go stale.

    deploy/lib/manual.py --build BUILD --out FOLDER [--version V] [--date YYYY-MM-DD]

writes FOLDER/man/PAGE.SECTION and FOLDER/completions/PROGRAM for all programs of the build folder.
"""
import argparse
import datetime
import os
import pathlib
import re
import subprocess
import textwrap

ROOT = pathlib.Path(__file__).resolve().parents[2]

# program -> (where it is built, section, what it is)
PROGRAMS = {
    'tasuki-agent': ('device-agent/tasuki-agent', 8, 'train on a device and hand training over'),
    'tasuki-trainer': ('edge-trainer/tasuki-trainer', 8, 'train what devices hand over'),
    'tasuki-dashboard': ('dashboard/gateway/tasuki-dashboard', 8, 'a page to look at a fleet'),
    'tasuki': ('cli/tasuki', 1, 'look at a fleet, command it, and work on checkpoints'),
    'tasuki-pki': (ROOT / 'deploy/pki', 1, 'certificates of a fleet'),
}
# configuration -> its program
CONFS = {'agent.conf': 'tasuki-agent', 'trainer.conf': 'tasuki-trainer', 'dashboard.conf': 'tasuki-dashboard'}

# ---- what a --help says ----

ITEM = re.compile(r'( *)(\S+(?: \S+)*?)  +(\S.*)$')  # "  --name VALUE  what it is"
OPTION = re.compile(r'(?<![\w-])(--[a-z][a-z-]*)')


def helps(program, name):
    """{'': text, 'COMMAND': text ...}"""
    def run(*args):
        r = subprocess.run([str(program), *args, '--help'], capture_output=True, text=True, timeout=30)
        if r.returncode != 0 or not r.stdout:
            raise RuntimeError(f'{program} {" ".join(args)} --help: {r.returncode}, {r.stderr.strip()}')
        return r.stdout.replace('deploy/pki', name)
    found = {'': run()}
    if name == 'tasuki':
        for item in parse(found[''])[1]:
            if item[0] == 'item':
                found[item[1]] = run(item[1])
    return found


def parse(text):
    """(usage lines, body): the body as ('item', term, [line ...]), ('text', line), ('code', line) and ('break',)."""
    lines = text.rstrip().split('\n')
    n = 1
    while n < len(lines) and re.match(r' {7,}\S', lines[n]):
        n += 1
    usage = [re.sub(r'^(usage: | {7})', '', line, flags=re.I) for line in lines[:n]]
    body, column = [], None  # where an item's text stands
    for line in lines[n:]:
        indent = len(line) - len(line.lstrip())
        item = ITEM.match(line)
        if not line.strip():
            body.append(('break',))
            column = None
        elif column and indent >= min(column, 8) and body and body[-1][0] == 'item':
            body[-1][2].append(line.strip())
        elif item:
            body.append(('item', item[2], [item[3]]))
            column = item.start(3)
        elif re.match(r' *--[a-z]', line):
            body.append(('item', line.strip(), []))
            column = indent + 8
        else:
            body.append(('code' if indent else 'text', line.strip()))
            column = None
    return usage, body

# ---- pages ----


def roff(text):
    text = text.replace('\\', '\\e').replace('-', '\\-').replace("'", '\\(aq').replace('`', '\\(ga').replace('^', '\\(ha').replace('~', '\\(ti')
    return '\\&' + text if text.startswith('.') else text


def fill(lines):
    """Text of several lines as lines for roff, none of them long."""
    return [roff(line) for line in textwrap.wrap(' '.join(lines), 72, break_on_hyphens=False, break_long_words=False)] or ['\\&']


def head(name, section, summary, version, date):
    return [f'.TH {name.upper()} {section} {date} "Tasuki {version}" "Tasuki"', '.SH NAME', f'{roff(name)} \\- {roff(summary)}']


def paragraph(out):
    """Not where a heading has just begun one."""
    if not out[-1].startswith(('.SH', '.SS', '.PP')):
        out.append('.PP')


def body_roff(out, body):
    kind = 'break'
    for entry in body:
        if entry[0] == 'break':
            kind = 'break'
            continue
        if entry[0] == 'item':
            out += ['.TP', f'.B {roff(entry[1])}', *fill(entry[2])]
        else:
            if kind != entry[0]:
                paragraph(out)
            elif kind == 'code':
                out.append('.br')
            out += fill([entry[1]])
        kind = entry[0]


def command_page(name, section, summary, texts, version, date):
    out = head(name, section, summary, version, date)
    for command, text in texts.items():
        usage, body = parse(text)
        out += ['.SH SYNOPSIS'] if not command else [f'.SS {roff(name + " " + command)}']
        if any('  ' in line for line in usage):  # with what each line is for beside it
            out += ['.nf', *map(roff, usage), '.fi']
        else:
            out += [x for line in usage for x in (f'.B {roff(line)}', '.br')][:-1]
        if not command:
            out.append('.SH DESCRIPTION')
        body_roff(out, body)
        if not command and len(texts) > 1:
            out.append('.SH COMMANDS')
    conf = next((c for c, program in CONFS.items() if program == name), None)
    return see_also(out, [f'{conf}(5)'] if conf else [], name)


def see_also(out, first, name):
    pages = first + [f'{n}({s})' for n, (_, s, _) in PROGRAMS.items() if n != name and n != 'tasuki-dashboard']
    return '\n'.join([*out, '.SH SEE ALSO', *(f'.BR {roff(p[:p.index("(")])} {p[p.index("("):]}{"," if p != pages[-1] else ""}' for p in pages)]) + '\n'


def conf_entries(text):
    """A configuration as ('section', name), ('about', [line ...], [(key, value) ...]): a comment is about the keys that
    follow it. A section, or keys, that are commented out ('#[identity]', '#key = value') count as well."""
    comment, entries = [], []
    for line in text.split('\n'):
        active = re.sub(r'^#(?=\[[a-z]+\]$|[a-z_]+ = )', '', line)
        key = re.match(r'([a-z_]+) *=(.*)$', active)
        if re.match(r'\[[a-z]+\]$', active):
            entries.append(('section', active[1:-1], comment))
            comment = []
        elif key:
            if comment or entries[-1][0] == 'section':
                entries.append(('about', comment, []))
            entries[-1][2].append((key[1], key[2].strip()))
            comment = []
        elif line.startswith('#'):
            comment.append(line[1:].strip())
        elif comment and not entries:  # the file's own heading
            entries.append(('heading', comment))
            comment = []
    return entries


def conf_page(name, text, version, date):
    program = CONFS[name]
    section = PROGRAMS[program][1]
    out = head(name, 5, f'configuration of {program}', version, date)
    out += ['.SH SYNOPSIS', f'.B {roff("/etc/tasuki/" + name)}', '.SH DESCRIPTION', roff(f'What {program}({section}) reads when it starts, and on SIGHUP.'),
            'A key stands with its default, or with an example where it has none.']
    for entry in conf_entries(text):
        if entry[0] == 'heading':
            paragraph(out)
            out += fill(entry[1])
        elif entry[0] == 'section':
            out += [f'.SH {roff("[" + entry[1] + "]")}', *(fill(entry[2]) if entry[2] else [])]
        else:
            _, comment, keys = entry
            for i, (key, value) in enumerate(keys):
                out += ['.TP' if i == 0 else '.TQ', f'.BR {roff(key)} " = {roff(value)}"' if value else f'.BR {roff(key)} " ="']
            out += fill(comment)
    return see_also(out, [f'{program}({section})'], program)

# ---- completion ----


def words(name, command, text):
    """What may follow a command: its options, and, from its usage, further commands."""
    usage, body = parse(text)
    more = [m[1] for line in usage for m in [re.match(rf'{name} {command} ?([a-z]+)( |$)'.replace('  ', ' '), line)] if m]
    return sorted(set(OPTION.findall(text)) | {'--help'} | set(more) | ({b[1] for b in body if b[0] == 'item' and not b[1].startswith('-')}
                                                                         if name == 'tasuki' and not command else set()))


def completion(name, texts):
    function = '_' + name.replace('-', '_')
    cases = ''.join(f"\t{command or '*'}) words='{' '.join(words(name, command, text))}' ;;\n" for command, text in
                    sorted(texts.items(), key=lambda t: (t[0] == '', t[0])))
    return f'''# bash completion of {name}; made from its --help
{function}() {{
	local words
	# shellcheck disable=SC2034
	case ${{COMP_WORDS[1]}} in
{cases}	esac
	[ "$COMP_CWORD" -gt 1 ] || words='{' '.join(words(name, '', texts['']))}'
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}")
}}
complete -o default -F {function} {name}
'''

# ---- all of it ----


def write(build, out, version, date, examples=ROOT / 'deploy/examples'):
    """Whatever of the programs the build has."""
    (out / 'man').mkdir(parents=True, exist_ok=True)
    (out / 'completions').mkdir(exist_ok=True)
    for name, (where, section, summary) in PROGRAMS.items():
        if not (build / where).exists():
            continue
        texts = helps(build / where, name)
        (out / 'man' / f'{name}.{section}').write_text(command_page(name, section, summary, texts, version, date))
        (out / 'completions' / name).write_text(completion(name, texts))
        for conf in [c for c, program in CONFS.items() if program == name]:
            (out / 'man' / f'{conf}.5').write_text(conf_page(conf, (examples / conf).read_text(), version, date))


def today():
    """The day that a build says it is of, so that it can be made again."""
    epoch = os.environ.get('SOURCE_DATE_EPOCH')
    now = datetime.datetime.now(datetime.timezone.utc)
    return (datetime.datetime.fromtimestamp(int(epoch), datetime.timezone.utc) if epoch else now).strftime('%Y-%m-%d')


def main():
    p = argparse.ArgumentParser(description='Writes man pages and bash completion.')
    p.add_argument('--build', type=pathlib.Path, required=True, help='a build folder')
    p.add_argument('--out', type=pathlib.Path, required=True)
    p.add_argument('--version', default='')
    p.add_argument('--date', default=today())
    args = p.parse_args()
    write(args.build.resolve(), args.out, args.version, args.date)


if __name__ == '__main__':
    main()
