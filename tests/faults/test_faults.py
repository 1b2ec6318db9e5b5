"""Every fault, again and again: what must happen happens, in time, and no torque beyond the clamp reaches the plant.

``make faults`` is the long form: so many trials that their worst says something, written to docs/safety.md.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from faults.catalogue import CLOCK_FAULTS, FAULTS, NETWORK_FAULTS, Fault
from faults.results import Results
from faults.rig import DITHER, Outcome, Rig
from ros.spring_policy import write_spring_policy

from ddpg_robot.policy import read_manifest

TRIALS = int(os.environ.get("FAULT_TRIALS", "1"))
ATTEMPTS = 4
"""A test machine that stands still for longer than a timeout is a fault of its own: a trial is then made again."""

pytestmark = pytest.mark.timeout(120 + 10 * TRIALS)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("policy") / "dither.onnx"
    write_spring_policy(path, "dither", DITHER)
    return path


@pytest.fixture(scope="module")
def results() -> Results:
    return Results(Path(os.environ["FAULT_RESULTS"]) if "FAULT_RESULTS" in os.environ else None)


@pytest.fixture(scope="module")
def rig(policy: Path, request: pytest.FixtureRequest) -> Iterator[Rig]:
    """One deployment for all faults, another for those of the clock; never both at the same time."""
    with Rig(policy, read_manifest(policy), simulated_time=request.param) as one:
        yield one


def trials(rig: Rig, fault: Fault, count: int = TRIALS) -> list[Outcome]:
    """So many outcomes; of one, the first that is in order."""
    rng = np.random.default_rng(0)
    outcomes: list[Outcome] = []
    while len(outcomes) < count or (count == 1 and not fault.in_order(outcomes[-1]) and len(outcomes) < ATTEMPTS):
        rig.control()
        outcome = rig.run(lambda rig: fault.start(rig, rng), fault.stop, fault.seconds)
        assert outcome.largest <= 1.0, "an effort beyond the clamp reached the plant"
        assert fault.in_order(outcome) or not outcome.recovered, "the policy was in control again without being asked"
        outcomes.append(outcome)
    return outcomes if count > 1 else outcomes[-1:]


def judge(results: Results, fault: Fault, outcomes: list[Outcome]) -> None:
    results.add(fault, outcomes)
    assert results.disorder(fault) <= 0.1 * TRIALS, f"must: {fault.must}, within {fault.within} periods: {outcomes}"


@pytest.mark.parametrize("rig", [False], indirect=True, ids=[""])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault(rig: Rig, results: Results, fault: Fault) -> None:
    judge(results, fault, trials(rig, fault))


@pytest.mark.parametrize("rig", [True], indirect=True, ids=[""])
@pytest.mark.parametrize("fault", CLOCK_FAULTS, ids=lambda fault: fault.name)
def test_fault_of_the_clock(rig: Rig, results: Results, fault: Fault) -> None:
    judge(results, fault, trials(rig, fault))


@pytest.mark.parametrize("fault", NETWORK_FAULTS, ids=lambda fault: fault.name)
def test_fault_of_the_network(policy: Path, results: Results, fault: Fault) -> None:
    """In a network of its own, with the policy node on the other side of a link that can be cut."""
    unshare = ["unshare", "--net"]
    if not (shutil.which("unshare") and shutil.which("ip") and subprocess.run([*unshare, "true"]).returncode == 0):
        pytest.skip("needs root, unshare and ip: a network namespace")
    command = [*unshare, sys.executable, "-m", "faults.network", str(policy), fault.name, str(TRIALS)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    judge(results, fault, [Outcome(**one) for one in json.loads(done.stdout.splitlines()[-1])])
