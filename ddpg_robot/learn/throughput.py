"""`benchmark train`: environment steps per second while learning, beside other libraries, in turns in one run."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ddpg_robot.errors import ConfigError, TrainingError, mismatch

TASK = "HalfCheetah-v5"
HIDDEN, BATCH = [256, 256], 256
WARM_UP = 1500
"""Environment steps before the clock runs; learning begins at half of them."""

AS_DDPG = {"actor_delay": 1, "newest_in_targets": False, "critic_expectile": 0.5}
"""What makes an update of preset ddpg that of the peers' DDPG: actor and critic once each, the target critic alone."""
AS_TD3 = {"critics": 2, "newest_in_targets": False, "critic_expectile": 0.5}
"""What makes an update of preset max that of TD3, but for its embeddings: two target critics."""
OURS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddpg as peers": ("ddpg", AS_DDPG),
    "ddpg as peers, float32": ("ddpg", {**AS_DDPG, "precision": "float32"}),
    "ddpg": ("ddpg", {}),
    "max as peers": ("max", AS_TD3),
    "max": ("max", {}),
    "paper": ("paper", {}),
}
"""Name -> preset and what differs from it, beside the sizes."""
PEERS = {"sb3_ddpg": "stable_baselines3", "sb3_td3": "stable_baselines3", "sbx_ddpg": "sbx"}
"""Name -> the module that must be installed."""


RATIOS = {
    "ratio_sb3": ("ddpg as peers", "sb3_ddpg"),
    "ratio_sb3_float32": ("ddpg as peers, float32", "sb3_ddpg"),
    "ratio_sbx": ("ddpg as peers", "sbx_ddpg"),
    "ratio_sb3_td3": ("max as peers", "sb3_td3"),
}
"""Name -> who of ours, and the peer that it is compared with."""


class Contestant(NamedTuple):
    """What runs in one process."""

    name: str
    """Of `OURS` or `PEERS`."""
    threads: int
    envs: int = 1
    shared: bool = False
    """One update for a step of all environments, instead of one for each step."""

    def __str__(self) -> str:
        text = f"{self.name}, {self.threads} thread{'s' * (self.threads > 1)}"
        if self.envs == 1:
            return text
        return f"{text}, {self.envs} environments{', 1 update for all' * self.shared}"


def benchmark_train(steps: int = 3000, rounds: int = 3, envs: tuple[int, ...] = ()) -> dict[str, Any]:
    """Measures and prints as a table: one update of actor and critic per environment step, 256 x 256 units, batch 256.

    Every contestant runs in a process of its own, one after the other, `rounds` times over, so that a busy machine
    disturbs all of them alike. Peers run at one thread and at as many as there are cores.

    Args:
        steps: measured environment steps per process.
        rounds: how often each contestant runs.
        envs: numbers of environments that `ddpg as peers` runs with besides.

    Returns:
        `machine`, `versions`, `rows`: name -> median and all rates (steps/s), and the `RATIOS`: our best median over the
        peer's best (None where the peer is not installed).

    Raises:
        ConfigError: fewer than two environments.
    """
    if min(envs, default=2) < 2:
        raise ConfigError(mismatch("envs", " ".join(map(str, envs)), "numbers from 2; one is always measured"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    peers = [name for name, module in PEERS.items() if importlib.util.find_spec(module)]
    threads = sorted({1, cores})
    contestants = [Contestant(name, n) for name in (*OURS, *peers) for n in threads]
    contestants += [
        Contestant("ddpg as peers", n, many, shared) for many in envs for shared in (False, True) for n in threads
    ]
    rates: dict[Contestant, list[float]] = {contestant: [] for contestant in contestants}
    for _ in range(rounds):
        for contestant in contestants:
            rates[contestant].append(_measured(contestant, steps))
            print(".", end="", flush=True, file=sys.stderr)
    print(file=sys.stderr)
    medians = {contestant: statistics.median(values) for contestant, values in rates.items()}

    def best(name: str) -> float | None:
        return max((value for c, value in medians.items() if c.name == name and c.envs == 1), default=None)

    result = {
        "task": TASK,
        "machine": f"{platform.machine()}, {cores} cores, Python {platform.python_version()}",
        "versions": _versions(),
        "rows": {str(c): {"median": medians[c], "rates": values} for c, values in rates.items()},
        **{name: best(ours) / best(peer) if best(peer) else None for name, (ours, peer) in RATIOS.items()},
    }
    print(format_throughput(result))
    return result


def format_throughput(result: dict[str, Any]) -> str:
    """What `benchmark_train` returned, as a table."""
    lines = [f"{result['task']} on {result['machine']}; environment steps per second, one update each"]
    width = max(map(len, result["rows"]))
    lines.append(f"{'':<{width}}{'median':>9}   all")
    for name, row in result["rows"].items():
        lines.append(f"{name:<{width}}{row['median']:>9.0f}   {' '.join(f'{rate:.0f}' for rate in row['rates'])}")
    for key, (ours, peer) in RATIOS.items():
        ratio = result[key]
        text = "not installed (pip install 'ddpg-robot[bench]')" if ratio is None else f"{ratio:.2f} times as fast"
        lines.append(f"{ours} beside {peer}: {text}")
    return "\n".join(lines)


def _measured(contestant: Contestant, steps: int) -> float:
    threads = str(contestant.threads)
    environment = os.environ | {"OMP_NUM_THREADS": threads, "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    if contestant.name == "sbx_ddpg" and contestant.threads == 1:
        environment["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    command = [sys.executable, "-m", "ddpg_robot.learn.throughput", json.dumps([*contestant, steps])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise TrainingError(mismatch(f"benchmark of {contestant}", done.stderr.strip()[-300:], "a finished run"))
    return float(json.loads(done.stdout.splitlines()[-1]))


def _ours(contestant: Contestant, steps: int) -> float:
    """Steps per second of `train` itself, replay, logs and progress included."""
    from ddpg_robot.learn.config import TrainConfig
    from ddpg_robot.learn.trainer import train

    log_every = 250
    name, threads, envs, shared = contestant
    preset, overrides = OURS[name]
    sizes = {"actor_hidden": HIDDEN, "critic_hidden": HIDDEN, "batch_size": BATCH, "warmup_steps": WARM_UP // 2}
    overrides = {**overrides, **sizes, "updates_per_step": 1 / envs if shared else 1.0}
    with tempfile.TemporaryDirectory() as folder:
        run = train(
            TrainConfig(
                TASK,
                preset=preset,
                steps=WARM_UP + steps,
                envs=envs,
                overrides=overrides,
                threads=threads,
                out=Path(folder) / "run",
                eval_every=10**9,
                final_eval_episodes=1,
                log_every=log_every,
                checkpoint_every_s=1e9,
            )
        )
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    times = {row["step"]: row["time_s"] for row in rows if row["kind"] == "train"}
    first, last = WARM_UP, max(times)
    return (last - first) / (times[last] - times[first])


def _stable_baselines(algorithm: Any, noise: Any, steps: int) -> float:
    """Steps per second of `learn` of a library with Stable-Baselines3's interface."""
    import gymnasium
    import numpy as np
    from stable_baselines3.common.callbacks import BaseCallback

    class Clock(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps in (WARM_UP, WARM_UP + steps):
                marks.append(time.perf_counter())
            return True

    marks: list[float] = []
    env = gymnasium.wrappers.DtypeObservation(gymnasium.make(TASK), np.float32)
    model = algorithm(
        "MlpPolicy",
        env,
        batch_size=BATCH,
        learning_starts=WARM_UP // 2,
        train_freq=1,
        gradient_steps=1,
        action_noise=noise,
        policy_kwargs={"net_arch": HIDDEN},
        device="cpu",
        seed=0,
    )
    model.learn(WARM_UP + steps, callback=Clock())
    return steps / (marks[1] - marks[0])


def _peer(contestant: Contestant, steps: int) -> float:
    import numpy as np
    import torch

    name = contestant.name
    torch.set_num_threads(contestant.threads)
    from stable_baselines3.common.noise import NormalActionNoise

    noise = NormalActionNoise(np.zeros(6), np.full(6, 0.1))
    if name == "sbx_ddpg":
        import sbx

        return _stable_baselines(sbx.DDPG, noise, steps)
    import stable_baselines3

    return _stable_baselines(getattr(stable_baselines3, name.removeprefix("sb3_").upper()), noise, steps)


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in ("ddpg-robot", "torch", "gymnasium", "mujoco", "numpy", "stable-baselines3", "sbx-rl", "jax"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def main(arguments: list[str]) -> None:
    """One contestant in this process; prints its rate."""
    *contestant, steps = json.loads(arguments[0])
    run: Callable[[Contestant, int], float] = _ours if contestant[0] in OURS else _peer
    print(json.dumps(run(Contestant(*contestant), steps)))


if __name__ == "__main__":
    main(sys.argv[1:])
