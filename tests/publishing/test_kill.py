"""kill -9 at any moment of a publish: the served version is whole, and none that was acknowledged is lost."""

import random
import subprocess
import sys
import time

from publisher import state_number
from versions import same

from louder.publishing import current_version, publish
from louder.publishing.chain import state_of

KILLS = 3


def test_a_publisher_that_is_killed_leaves_a_whole_chain(tmp_path):
    draw, words = random.Random(1), [sys.executable, "-m", "tests.publishing.publisher", str(tmp_path)]
    for _ in range(KILLS):
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        first = process.stdout.readline()
        time.sleep(draw.uniform(0, 0.3))
        process.kill()
        said = (first + process.stdout.read()).splitlines()
        process.wait()
        process.stdout.close()
        acknowledged, number = map(int, said[-1].split())
        served = current_version(tmp_path)
        state = state_of(served)
        steps = int(state.weights["steps"])
        assert steps >= acknowledged and served.number >= number  # the last one may not have been told
        assert same(state, state_number(steps))
    again = publish(tmp_path, state_number(7)).version
    assert same(state_of(again), state_number(7))
    assert not list(tmp_path.glob(".v*")) and not (tmp_path / ".lock").exists()
