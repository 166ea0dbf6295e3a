"""Tables of measured figures, and the documents they go into."""
import pathlib
import re


def table(header, rows):
    cells = [[str(x) for x in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    left = [all(not re.match(r'^[\d.,]+( %)?$', row[i]) for row in cells[1:]) for i in range(len(header))]

    def line(row):
        return '| ' + ' | '.join(c.ljust(w) if l else c.rjust(w) for c, w, l in zip(row, widths, left)) + ' |'
    rule = '|' + '|'.join('-' * (w + 1) + ('-' if l else ':') for w, l in zip(widths, left)) + '|'
    return '\n'.join([line(cells[0]), rule, *map(line, cells[1:])])


def rewrite(path, part, text):
    """Puts text between a part's markers in a document."""
    path = pathlib.Path(path)
    old = path.read_text()
    begin, end = f'<!-- measured: {part} -->\n', f'<!-- end: {part} -->\n'
    if old.count(begin) != 1 or old.count(end) != 1:
        raise SystemExit(f'{path}: expected the lines {begin.strip()} and {end.strip()} once each')
    head, rest = old.split(begin)
    path.write_text(head + begin + text + end + rest.split(end)[1])
