"""Rate and stamps of a stream of messages, against what the safety filter lets through."""

from __future__ import annotations

import numpy as np

from ddpg_robot.spec import ControlSpec
from ddpg_robot_ros.doctor.findings import Finding, fail, ok, skipped, warning

TIMEOUT_PERIODS = 2.0
"""Oldest state that the policy node uses by default, in periods of the policy."""
SLACK = 0.9
"""A rate this far below the wanted one still counts."""
FUTURE_S = 1e-3
ANOTHER_CLOCK_S = 1e6
CLOCKS = "Synchronise the clocks (chrony, PTP), or set age_source to 'receipt'"


def new_states(stamp: np.ndarray) -> np.ndarray:
    """Which messages count as a new state: those with another stamp than the one before, or with none ``(m,)``."""
    new = np.ones(len(stamp), dtype=bool)
    new[1:] = (np.diff(stamp) != 0) | (stamp[1:] == 0)
    return new


def rate_finding(check: str, received: np.ndarray, stamp: np.ndarray, control: ControlSpec) -> Finding:
    """Rate and gaps of new states.

    Args:
        check: name of the check.
        received: when the messages arrived ``(m,)``, s.
        stamp: their stamps ``(m,)``, s.
        control: the policy's rate.
    """
    times = np.sort(received[new_states(stamp)])
    wanted, timeout = 1 / control.period, TIMEOUT_PERIODS * control.period
    if len(times) < 3:
        return fail(check, f"{len(times)} new states among {len(received)} messages", f"at least {wanted:g} per second")
    gaps = np.diff(times)
    rate = 1 / gaps.mean()
    p50, p99, longest = np.percentile(gaps, [50, 99, 100]) * 1e3
    found = f"{rate:.1f} Hz (interval: median {p50:.2f} ms, 99 % below {p99:.2f} ms, longest {longest:.1f} ms)"
    if rate < SLACK * wanted:
        return fail(check, found, f"at least the policy's {wanted:g} Hz", "Raise the rate of the publisher")
    if p99 > timeout * 1e3:
        return fail(check, found, f"gaps below {timeout * 1e3:g} ms, where the safety filter trips")
    if longest > timeout * 1e3:
        return warning(check, found, f"gaps below {timeout * 1e3:g} ms: the longest would have tripped the filter")
    if rate < SLACK / control.loop_period:
        return warning(check, found, f"{1 / control.loop_period:g} Hz, the rate of the loop: it would see states twice")
    return ok(check, found)


def stamp_finding(check: str, received: np.ndarray, stamp: np.ndarray, control: ControlSpec) -> Finding:
    """Whether stamps run, and how they lie against this machine's clock. Arguments as for `rate_finding`."""
    timeout = TIMEOUT_PERIODS * control.period
    if not len(stamp):
        return skipped(check, "no messages")
    if not stamp.any():
        hint = "Let the driver stamp its messages with the time of measurement"
        return warning(check, "all zero: ages are counted from receipt, and a slow network is not seen", hint=hint)
    if not stamp.all():
        return fail(check, f"{np.count_nonzero(stamp == 0)} of {len(stamp)} are zero", "a stamp in every message")
    if len(stamp) > 2 and (stamp == stamp[0]).all():
        hint = "The driver sends one and the same state again and again"
        return fail(check, f"frozen at {stamp[0]:.3f} s", "stamps that run", hint)
    backwards = int(np.count_nonzero(np.diff(stamp) < 0))
    if backwards:
        hint = "Two publishers, or a clock that was set"
        return fail(check, f"{backwards} of {len(stamp)} go backwards", "stamps that only grow", hint)
    age = (received - stamp)[new_states(stamp)]
    median = float(np.median(age))
    found = f"age on arrival {median * 1e3:.2f} ms (from {age.min() * 1e3:.2f} to {age.max() * 1e3:.2f} ms)"
    if abs(median) > ANOTHER_CLOCK_S:
        hint = "Simulated time, or time since boot? Set use_sim_time, or age_source to 'receipt'"
        return fail(check, f"age on arrival {median:.0f} s", "stamps of the system clock", hint)
    if abs(median) > timeout:
        where = "in the future" if median < 0 else "old"
        return fail(check, f"{found}: {where}", f"less than {timeout * 1e3:g} ms, where the filter trips", CLOCKS)
    if median < -FUTURE_S or abs(median) > timeout / 2:
        return warning(check, found, f"0 to {timeout * 500:g} ms", CLOCKS)
    return ok(check, found)
