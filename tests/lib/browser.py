"""Headless Chromium through Debian's chromedriver: the few commands of WebDriver (W3C) that the tests of the page need, as HTTP and JSON."""
import base64
import http.client
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / 'deploy/lib'))
from fleet import die_with_parent, free_port, wait_for  # noqa: E402

# No sandbox: who runs tests as root has none, and pages are our own. Nothing is asked of anybody outside.
ARGUMENTS = ('--headless=new', '--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu', '--hide-scrollbars', '--no-first-run', '--disable-background-networking',
             '--disable-component-update', '--disable-sync', '--disable-default-apps', '--no-default-browser-check', '--lang=en')
ELEMENT = 'element-6066-11e4-a52e-4f735466cecf'
KEYS = {'Tab': '\ue004', 'Enter': '\ue007', 'ArrowDown': '\ue015', 'ArrowUp': '\ue013', 'PageDown': '\ue00f', 'PageUp': '\ue00e', 'Home': '\ue011', 'End': '\ue010'}
CALL_S, WAIT_S = 180, 120  # a busy machine takes its time; nothing here measures it


def missing():
    """What is not there of what a browser needs, or None."""
    return next((p for p in ('chromium', 'chromedriver') if not shutil.which(p)), None)


class Failed(Exception):
    """The browser did not do it."""


class Browser:
    def __init__(self):
        self.profile, self.port = tempfile.mkdtemp(prefix='tasuki-browser-'), free_port()
        self.driver = subprocess.Popen(['chromedriver', f'--port={self.port}', '--log-level=SEVERE'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                       stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=die_with_parent)
        try:
            wait_for('chromedriver', self._ready, WAIT_S)
            answer = self._call('POST', '/session', {'capabilities': {'alwaysMatch': {'timeouts': {'script': 1000 * WAIT_S}, 'goog:loggingPrefs': {'browser': 'ALL', 'performance': 'ALL'}, 'goog:chromeOptions': {
                'binary': shutil.which('chromium'), 'args': [*ARGUMENTS, f'--user-data-dir={self.profile}']}}}})
            self.session = f'/session/{answer["sessionId"]}'
        except BaseException:
            self._end()
            raise

    def _call(self, method, path, body=None):
        c = http.client.HTTPConnection('127.0.0.1', self.port, timeout=CALL_S)
        try:
            c.request(method, path, None if body is None else json.dumps(body), {'Content-Type': 'application/json'})
            value = json.loads(c.getresponse().read())['value']
        finally:
            c.close()
        if isinstance(value, dict) and 'error' in value:
            raise Failed(f'{value["error"]}: {value["message"].splitlines()[0]}')
        return value

    def _ready(self):
        try:
            return self._call('GET', '/status')['ready']
        except OSError:
            return False

    def open(self, url):
        self._call('POST', f'{self.session}/url', {'url': url})

    def run(self, script, *args):
        """A function's body in the page; what it returns."""
        return self._call('POST', f'{self.session}/execute/sync', {'script': script, 'args': args})

    def run_async(self, script, *args):
        """The same, whose last argument is to be called with what it returns."""
        return self._call('POST', f'{self.session}/execute/async', {'script': script, 'args': args})

    def cdp(self, command, **params):
        return self._call('POST', f'{self.session}/goog/cdp/execute', {'cmd': command, 'params': params})

    def wait(self, what, script, *args, timeout=WAIT_S):
        """Until a script returns what is true."""
        try:
            return wait_for(what, lambda: self.run(script, *args), timeout)
        except TimeoutError as e:
            raise Failed(f'{e}; the page shows: {self.text("body")[:1500]!r}') from None

    def text(self, css):
        return self.run('return document.querySelector(arguments[0])?.innerText ?? ""', css)

    def _with(self, css, *steps):
        """Does it with an element; the page may draw that anew between any two steps, and then it is found again."""
        def done():
            try:
                found = self._call('POST', f'{self.session}/element', {'using': 'css selector', 'value': css})
                for step, body in steps:
                    self._call('POST', f'{self.session}/element/{found[ELEMENT]}/{step}', body)
                return True
            except Failed as e:
                if not str(e).startswith(('stale element', 'no such element', 'element click intercepted')):
                    raise
                return False
        wait_for(f'{css} to stay', done, WAIT_S)

    def click(self, css):
        self._with(css, ('click', {}))

    def write(self, css, text):
        self._with(css, ('clear', {}), ('value', {'text': text}))

    def press(self, *keys):
        """Keys as they lie on a keyboard, to whatever has focus."""
        strokes = [{'type': kind, 'value': KEYS.get(k, k)} for k in keys for kind in ('keyDown', 'keyUp')]
        self._call('POST', f'{self.session}/actions', {'actions': [{'type': 'key', 'id': 'keyboard', 'actions': strokes}]})

    def device(self, width, height, phone=False, dark=False, still=True):
        self.cdp('Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=2 if phone else 1, mobile=phone)
        self.cdp('Emulation.setEmulatedMedia', features=[{'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'},
                                                         {'name': 'prefers-reduced-motion', 'value': 'reduce' if still else 'no-preference'}])

    def picture(self, path):
        pathlib.Path(path).write_bytes(base64.b64decode(self._call('GET', f'{self.session}/screenshot')))

    def console(self):
        """What the console has said since the last time."""
        return self._call('POST', f'{self.session}/se/log', {'type': 'browser'})

    def requests(self):
        """URLs that were asked for since the last time, over HTTP and as WebSockets."""
        events = [json.loads(e['message'])['message'] for e in self._call('POST', f'{self.session}/se/log', {'type': 'performance'})]
        return [e['params']['request']['url'] for e in events if e['method'] == 'Network.requestWillBeSent'] + \
            [e['params']['url'] for e in events if e['method'] == 'Network.webSocketCreated']

    def _end(self):
        self.driver.terminate()
        self.driver.wait(15)
        for _ in range(20):  # Chromium's own processes write until they have ended
            shutil.rmtree(self.profile, ignore_errors=True)
            if not pathlib.Path(self.profile).exists():
                break
            time.sleep(0.1)

    def close(self):
        try:
            self._call('DELETE', self.session)
        except (OSError, Failed):
            pass
        self._end()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
