# build: plain
"""The dashboard's page in headless Chromium, through the real gateway and broker: what it shows, by keyboard, on a phone, to whom it speaks."""
import pathlib
import sys
import time


ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'tests/lib'))
import browser  # noqa: E402
import rig  # noqa: E402
from dashboard import PASSWORD, start_dashboard  # noqa: E402
from made_up import MadeUpFleet, hash_of, rfc3339  # noqa: E402

DEVICES, OFFLINE = 300, 3
AXE = rig.BUILD / 'dashboard/page/node_modules/axe-core/axe.min.js'
RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']
LIVE = 'return document.getElementById("connection").dataset.state === "connected"'
ROWS = 'return [...document.querySelectorAll(".fleet tbody tr:not(.space)")].sort((a, b) => a.ariaRowIndex - b.ariaRowIndex).map((r) => r.querySelector("a").textContent)'
ROWS_IS = f'const rows = (() => {{ {ROWS} }})(); return rows.slice(0, arguments[0].length).join() === arguments[0].join()'
TEXT_HAS = 'return document.querySelector(arguments[0])?.innerText.includes(arguments[1]) ?? false'
FOCUS = 'const e = document.activeElement; return e.id || e.textContent.trim().slice(0, 40) || e.getAttribute("aria-label")'
WIDTH = 'return [document.documentElement.scrollWidth, innerWidth]'


class PageCase(rig.Case):
    operator = False

    @classmethod
    def setUpClass(cls):
        cls.browser = browser.Browser()

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()

    def setUp(self):
        super().setUp()
        self.fleet.start_broker()
        self.page = start_dashboard(self.fleet, rig.DIGITS, self.operator)
        self.made = MadeUpFleet(self.fleet.port, self.site, DEVICES)
        self.browser.device(1280, 900)
        self.console_may_say, self.shows = (), {}

    def tearDown(self):
        """Whatever a test does: nothing goes wrong in the console, least of all with the page's policy, and nobody else is spoken to."""
        try:
            said = [m['message'] for m in self.browser.console() if not any(x in m['message'] for x in self.console_may_say)]
            outside = [u for u in self.browser.requests() if u.startswith(('http', 'ws')) and not u.split('//')[1].startswith(self.page.url.split('//')[1])]
            self.browser.open('about:blank')
            self.made.close()
        finally:
            super().tearDown()
        self.assertEqual((said, outside), ([], []))

    def open(self, where='#/'):
        self.browser.open('about:blank')
        self.browser.open(self.page.url + where)
        self.browser.wait('connection', LIVE)

    def shown(self, css, text, timeout=browser.WAIT_S):
        self.browser.wait(f'{text!r} in {css}', TEXT_HAS, css, text, timeout=timeout)


class Shows(PageCase):
    def test_fleet(self):
        self.made.retained(OFFLINE)
        self.open()
        b = self.browser
        self.shown('.figures', f'of {DEVICES}, {OFFLINE} offline')
        b.wait('rows', ROWS_IS, [f'cam-{i}' for i in range(1, 9)])
        self.assertEqual(b.run('return document.querySelector(".fleet").getAttribute("aria-rowcount")'), str(DEVICES + 1))
        self.assertLess(len(b.run(ROWS)), 40, 'only what is seen exists')
        self.shown('.alerts', '3 devices offline: cam-1, cam-2, cam-3')
        self.shown('.figures', '10 %')
        # Sorted, filtered, searched.
        b.click('.c-device button')
        b.wait('the other order', ROWS_IS, [f'cam-{DEVICES - i}' for i in range(5)])
        self.assertEqual(b.run('return document.querySelector(".c-device[aria-sort]").ariaSort'), 'descending')
        b.click('.alerts button')
        b.wait('the filter', ROWS_IS, ['cam-3', 'cam-2', 'cam-1'])
        self.shown('.tools', f'{OFFLINE} of {DEVICES} devices')
        b.write('#search', 'cam-2')
        b.wait('the search', ROWS_IS, ['cam-2'])
        # Live, and as text whatever it is.
        self.made.say('device/cam-2/presence', {'online': True, 'boot': 1})
        b.run('const f = document.getElementById("filter"); f.value = "all"; f.dispatchEvent(new Event("change"))')
        b.write('#search', 'cam-217')
        nasty = '<img src=x onerror="document.title=1"><b>not bold</b>'
        self.made.say('device/cam-217/status', self.made.status('cam-217', time.time(), phase='waiting', reason=nasty, active=None))
        self.shown('.fleet', 'not bold')
        self.assertEqual(b.run('return document.querySelectorAll("main img, main b").length'), 0)
        self.shown('.figures', f'{OFFLINE - 1} offline')
        for bad in ({}, {'online': 'yes', 'boot': 1}, {'online': True, 'boot': -1}, [1]):
            self.made.say('device/cam-9/presence', bad)
            self.made.settle()
            time.sleep(0.05)  # of one topic the page keeps the last only
        self.shown('footer', 'messages were not understood')
        self.assertEqual(b.run('return document.title'), 'Fleet – Tasuki test')

    def test_device(self):
        self.made.retained()
        history = self.made.history('cam-17', time.time())
        self.made.say('device/cam-17/history', history)
        self.made.say('device/cam-18/history', {**history, 'points': history['points'][:5]})
        self.made.say('device/cam-17/status', self.made.status('cam-17', time.time(), phase='training', progress=0.25, moved_bytes=1234000, data_bytes=12340000, active={
            'checkpoint': hash_of('x'), 'origin': 'edge', 'accuracy': 0.875, 'pinned': True}))
        self.made.settle()
        self.open('#/device/cam-17')
        b, swaps = self.browser, sum(p[5] for p in history['points'])
        b.wait('the chart', f'return document.querySelector(".plot")?.ariaLabel?.includes("{len(history["points"])} checkpoints, {swaps} swaps")')
        b.wait('something drawn', 'const c = document.querySelector(".plot canvas"), d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data; return d.filter((x, i) => i % 4 === 3 && x > 128).length > 500')
        self.shown('.legend', 'edge')
        for text in (f'{hash_of("x")[:12]} (edge, pinned)', '87.5 %', '1.23 MB, 10 % of the images'):
            self.shown('.facts', text)
        k = history['confusion']['classes']
        self.assertEqual(b.run('return document.querySelectorAll(".matrix td").length'), k * k)
        self.assertEqual(b.run('return document.querySelector(".matrix td").title'), f'0 taken for 0: {history["confusion"]["counts"][0]}')
        b.click('summary')
        b.wait('the table', f'return document.querySelectorAll(".data tbody tr").length === {len(history["points"])}')
        # What comes is drawn: a swap more, and a job that goes on.
        history['points'].append([int(time.time()), 999, 'blend', 400, 399, 1, 'f' * 12])
        self.made.say('device/cam-17/history', history)
        b.wait('the swap', f'return document.querySelector(".plot").ariaLabel.includes("{swaps + 1} swaps, in use 99.8 %")')
        for share, phase in ((0.3, 'training'), (0.6, 'training'), (1, 'done')):
            self.made.say('trainer/edge-1/job/cam-17', {**self.made.job('cam-17', 'edge-1', share * 0.99, time.time()), 'phase': phase, 'progress': share}, first=0x30)
            b.wait(f'job at {share}', 'return document.querySelector(".jobs [role=progressbar]")?.getAttribute("aria-valuenow") === arguments[0]', str(int(100 * share)))
        self.shown('.jobs', 'done')
        # Another one has its own.
        b.open(self.page.url + '#/device/cam-18')
        b.wait('the other chart', 'return document.querySelector(".plot")?.ariaLabel?.includes("5 checkpoints")')
        b.open(self.page.url + '#/device/never-heard-of')
        self.shown('main', 'Nothing has been heard of this device')
        b.open(self.page.url + '#/edge')
        self.shown('.jobs', 'cam-17')
        self.shown('.trainers', 'places taken')
        self.shown('main', 'to 10 % of the devices')

    def test_broker_away(self):
        self.made.retained()
        self.open()
        self.shown('.figures', f'of {DEVICES}')
        self.console_may_say = ('WebSocket',)
        self.fleet.programs['broker'].kill()
        self.shown('#away', 'The broker is not there')
        self.shown('#connection', 'No connection')
        self.shown('.figures', f'of {DEVICES}')
        self.fleet.start_broker()
        self.browser.wait('connection', LIVE)
        self.assertTrue(self.browser.run('return document.getElementById("away").hidden'))
        self.made.close()
        self.made = MadeUpFleet(self.fleet.port, self.site, DEVICES + 1)
        self.made.retained()
        self.shown('.figures', f'of {DEVICES + 1}')  # it is subscribed again
        self.page.stop()
        self.browser.open('about:blank')


class Reach(PageCase):
    """Whoever it is for."""
    operator = True
    VIEWS = ('#/', '#/device/cam-17', '#/edge', '#/commands')

    def fill(self):
        self.made.retained(OFFLINE)
        self.made.say('device/cam-17/history', self.made.history('cam-17', time.time()))
        for i in range(3):
            self.made.say(f'trainer/edge-1/job/cam-{17 + i}', self.made.job(f'cam-{17 + i}', 'edge-1', 0.5, time.time()), first=0x31)
        self.made.settle()

    def test_keyboard(self):
        self.fill()
        self.open()
        b = self.browser
        self.shown('.figures', f'of {DEVICES}')
        b.wait('rows', ROWS_IS, ['cam-1'])
        walked = []
        for _ in range(40):
            b.press('Tab')
            walked.append(b.run(FOCUS))
            if walked[-1] == 'cam-1':
                break
        for stop in ('skip', 'Fleet', 'Trainers', 'search', 'filter', 'Devices', 'Device', 'Accuracy', 'cam-1'):
            self.assertTrue(any(w.startswith(stop) for w in walked), (stop, walked))
        for key, at in (('ArrowDown', 'cam-2'), ('ArrowDown', 'cam-3'), ('ArrowUp', 'cam-2'), ('End', f'cam-{DEVICES}'), ('Home', 'cam-1'), ('PageDown', None), ('End', f'cam-{DEVICES}'), ('ArrowUp', f'cam-{DEVICES - 1}')):
            b.press(key)
            focus = b.run(FOCUS)
            self.assertEqual(focus, at or focus, key)
            self.assertTrue(b.run('const r = document.activeElement.getBoundingClientRect(), s = document.querySelector(".scroll").getBoundingClientRect();'
                                  'return r.top >= s.top + 30 && r.bottom <= s.bottom'), f'{focus} is seen')
        b.press('Enter')
        self.shown('h1', f'cam-{DEVICES - 1}')
        self.assertEqual(b.run(FOCUS), f'cam-{DEVICES - 1}')  # the heading: what is read out next
        self.assertEqual(b.run('return document.activeElement.tagName'), 'H1')

    def test_phone(self):
        self.fill()
        self.browser.device(390, 844, phone=True)
        for view in self.VIEWS:
            self.open(view)
            self.shown('main', 'cam-17' if 'cam-17' in view else ' ')
            time.sleep(0.3)
            wide, inner = self.browser.run(WIDTH)
            self.assertLessEqual(wide, inner, f'{view} is wider than a phone')
        self.open()
        self.browser.wait('rows', ROWS_IS, ['cam-1'])
        cells = self.browser.run('return [...document.querySelectorAll(".fleet tbody tr:not(.space)")][0].innerText')
        self.assertIn('%', cells)

    def test_axe(self):
        self.fill()
        axe = AXE.read_text()
        for dark, rules in ((False, RULES), (True, ['wcag2aa'])):  # colours are what is different in the dark
            self.browser.device(1280, 900, dark=dark)
            for view in self.VIEWS:
                self.open(view)
                self.browser.wait('content', 'return document.querySelector(".jobs li, .fleet tbody a, .command, .matrix") !== null')
                self.browser.run(axe + '; window.axe = axe;')
                found = self.browser.run_async('const done = arguments[1]; axe.run({ runOnly: arguments[0], preload: false }).then((r) => done(r.violations.map((v) => [v.id, v.help, v.nodes.map((n) => [n.target.join(), n.failureSummary]).slice(0, 4)])))', RULES)
                self.assertEqual(found, [], f'{view} dark={dark}')


class Commands(PageCase):
    operator = True

    def test_command(self):
        """A real device answers what is typed into the form."""
        self.quick_agent('cam-1', self.digits('one', 60, 1))
        self.fleet.start_agent('cam-1')
        self.open('#/device/cam-1')
        b = self.browser
        self.shown('main', 'Commands')
        self.shown('h1 + .badge', 'idle', timeout=rig.WAIT)
        self.console_may_say = ('403',)
        for word, text in (('wrong', 'not the operators'), (PASSWORD, None)):
            b.write('#password', word)
            b.click('.command button[type=submit]')
            if text:
                self.shown('.command .error', text)
        b.wait('the form', 'return document.getElementById("cmd") !== null')
        choose = 'const s = document.getElementById("cmd"); s.value = arguments[0]; s.dispatchEvent(new Event("change"))'
        b.run(choose, 'pin')
        b.write('#c-checkpoint', 'abc')
        b.click('.command button[type=submit]')
        self.shown('.command .error', 'expected 64 lower-case hex digits')
        self.assertEqual(b.run('return document.activeElement.id'), 'c-checkpoint')
        b.run(choose, 'pause')
        b.click('.command button[type=submit]')
        self.shown('.outcome', 'cam-1: done')
        self.shown('h1 + .badge', 'paused')
        b.wait('its own history', 'return document.querySelector(".plot").ariaLabel?.includes("swap") && document.querySelector(".matrix") !== null', timeout=rig.WAIT)
        self.shown('.facts', 'of the images')
        b.run(choose, 'ping')
        b.click('.command button[type=submit]')
        self.shown('.outcome', 'boot')
        b.run(choose, 'set')
        b.write('#c-key', 'no.such')
        b.write('#c-value', '<b>1</b>')
        b.click('.command button[type=submit]')
        self.shown('.outcome [data-ok=no]', 'no.such')
        b.click('.command .quiet')
        b.wait('the login', 'return document.getElementById("password") !== null')


if __name__ == '__main__':
    if not (rig.BUILD / 'dashboard/page/www/app.js').exists():
        rig.skip(f'{rig.BUILD}: built without the dashboard\'s page (deploy/lib/packages test)')
    if browser.missing():
        rig.skip(f'{browser.missing()} is not there (deploy/lib/packages test)')
    rig.main()
