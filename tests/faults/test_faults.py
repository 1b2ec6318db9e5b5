"""Every fault, again and again: what must happen happens, in time, and no torque beyond the clamp reaches the plant.

``make faults`` is the long form: so many trials that their worst says something, written to docs/safety.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from faults.catalogue import FAULTS, Fault
from faults.results import Results
from faults.rig import DITHER, Outcome, Rig
from ros.spring_policy import write_spring_policy

TRIALS = int(os.environ.get("FAULT_TRIALS", "1"))
ATTEMPTS = 4
"""A test machine that stands still for longer than a timeout is a fault of its own: a trial is then made again."""


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    path = tmp_path_factory.mktemp("policy") / "dither.onnx"
    manifest = write_spring_policy(path, "dither", DITHER)
    with Rig(path, manifest, "faults.faulty_policy_node") as one:
        yield one


@pytest.fixture(scope="module")
def results() -> Iterator[Results]:
    kept = Results(TRIALS)
    yield kept
    if "FAULT_RESULTS" in os.environ:
        kept.publish(Path(os.environ["FAULT_RESULTS"]))


def trial(rig: Rig, fault: Fault, rng: np.random.Generator) -> Outcome:
    rig.control()
    outcome = rig.run(lambda rig: fault.start(rig, rng), fault.stop, fault.seconds)
    assert outcome.largest <= 1.0, "an effort beyond the clamp reached the plant"
    assert fault.in_order(outcome) or not outcome.recovered, "the policy was in control again without being asked"
    return outcome


@pytest.mark.timeout(120 + 10 * TRIALS)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault(rig: Rig, results: Results, fault: Fault) -> None:
    rng = np.random.default_rng(0)
    for _ in range(TRIALS):
        outcomes = [trial(rig, fault, rng)]
        while TRIALS == 1 and not fault.in_order(outcomes[-1]) and len(outcomes) < ATTEMPTS:
            outcomes.append(trial(rig, fault, rng))
        results.add(fault, outcomes[-1])
        assert TRIALS > 1 or fault.in_order(outcomes[-1]), (
            f"must: {fault.must}, within {fault.within} periods: {outcomes}"
        )
    assert results.disorder(fault) <= 0.1 * TRIALS
