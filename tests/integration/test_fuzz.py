# slow
# build: fuzz
# alone
"""Every fuzz target under libFuzzer with both sanitizers, 15 minutes each (TASUKI_FUZZ_S seconds), as many at a time as there
are processors: no crash, leak, hang or greed. What is found lies in build-fuzz/campaign, as do the grown corpora; tests/fuzz/grow
keeps the best of these."""
import os
import pathlib
import sys
import unittest
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import fuzzing
import rig

SECONDS = int(os.environ.get('TASUKI_FUZZ_S', fuzzing.SECONDS))


class Fuzz(unittest.TestCase):
    def test_campaign(self):
        build = pathlib.Path(os.environ['TASUKI_BUILD'])
        findings = []
        for r in fuzzing.Campaign(build, build / 'campaign', SECONDS).run(fuzzing.targets(build)):
            rig.figure(r.line(SECONDS))
            findings += [r.finding] if r.finding else []
        self.assertFalse(findings, '\n\n'.join(findings))


if __name__ == '__main__':
    rig.main()
