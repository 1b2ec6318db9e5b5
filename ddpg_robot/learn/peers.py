"""Other libraries' agents, trained and evaluated as ours are: same episodes, same rows in metrics.jsonl.

`python -m ddpg_robot.learn.peers JSON` trains one in this process.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from ddpg_robot import __version__
from ddpg_robot.errors import ConfigError, DdpgRobotError, mismatch
from ddpg_robot.learn.config import TrainConfig
from ddpg_robot.learn.evaluate import evaluate_task
from ddpg_robot.learn.rundir import RunDirectory, write_json
from ddpg_robot.learn.tasks import open_task

PEERS = {"sb3_ddpg": "DDPG", "sb3_td3": "TD3"}
"""Name -> class in Stable-Baselines3."""
NOISE_SIGMA = 0.1
"""Deviation of Gaussian exploration noise. The library's default is none at all, its documentation's example this."""
NOT_LEARNING = {"replay_buffer_class", "replay_buffer_kwargs", "tensorboard_log", "stats_window_size", "verbose"}
NOT_LEARNING |= {"action_noise", "seed", "device", "_init_setup_model"}
"""Arguments of the library's classes that are no hyperparameters, or set here."""


@dataclasses.dataclass(frozen=True)
class PeerConfig(TrainConfig):
    """One training of a peer: `preset` is its name, `overrides` are arguments of its class, and `noise_sigma`."""

    def settings(self, declared: dict[str, Any] | None = None) -> dict[str, Any]:
        """Everything that the result depends on, as JSON data. Raises ConfigError on an unknown peer or argument."""
        names = ("task", "task_kwargs", "steps", "seed", "threads", "eval_every", "eval_episodes")
        run = {"peer": self.preset} | {name: getattr(self, name) for name in names}
        return {**run, "final_eval_episodes": self.final_eval_episodes, "agent": self.arguments()}

    def arguments(self) -> dict[str, Any]:
        """Arguments of the peer's class, its own defaults but for `overrides`."""
        parameters = inspect.signature(_algorithm(self.preset)).parameters.values()
        known = {p.name: p.default for p in parameters if p.default is not p.empty and p.name not in NOT_LEARNING}
        known["noise_sigma"] = NOISE_SIGMA
        for name in self.overrides:
            if name not in known:
                raise ConfigError(mismatch("setting", repr(name), f"an argument of {PEERS[self.preset]}", known))
        return known | self.overrides

    def command(self) -> list[str]:
        """The process that trains it from the beginning."""
        return [sys.executable, "-m", "ddpg_robot.learn.peers", json.dumps(dataclasses.asdict(self), default=str)]


def train_peer(config: PeerConfig) -> None:
    """Trains a peer from the beginning, whatever an interrupted training left in the directory.

    Raises:
        ConfigError: unknown peer, argument or task, or a task without Box spaces.
    """
    import torch

    from ddpg_robot.learn.progress import Metrics

    torch.set_num_threads(config.threads)
    run = RunDirectory(config.out)
    settings = config.settings()
    with open_task(config.task, config.task_kwargs) as test_task:
        run.path.mkdir(parents=True, exist_ok=True)
        write_json(run.settings_file, {"settings": settings, "versions": _versions()})
        env = gymnasium.wrappers.DtypeObservation(gymnasium.make(config.task, **config.task_kwargs), np.float32)
        model = _model(config, env)
        with Metrics(run, 0, 0) as metrics:
            callback = _evaluations(config, test_task, metrics)
            model.learn(config.steps, callback=callback)
            result = callback.evaluate(config.final_eval_episodes)
        env.close()
    write_json(run.evaluation_file, {"which": "last", "step": model.num_timesteps, **result})


def _algorithm(peer: str) -> Any:
    if peer not in PEERS:
        raise ConfigError(mismatch("peer", repr(peer), "a known peer", PEERS))
    import stable_baselines3

    return getattr(stable_baselines3, PEERS[peer])


def _model(config: PeerConfig, env: gymnasium.Env) -> Any:
    from stable_baselines3.common.noise import NormalActionNoise

    arguments = config.arguments()
    sigma = arguments.pop("noise_sigma")
    size = env.action_space.shape
    noise = NormalActionNoise(np.zeros(size), np.full(size, sigma)) if sigma else None
    algorithm = _algorithm(config.preset)
    return algorithm("MlpPolicy", env, action_noise=noise, seed=config.seed, device="cpu", **arguments)


def _evaluations(config: PeerConfig, test_task: Any, metrics: Any) -> Any:
    """A callback that evaluates and logs as the trainer does."""
    import torch
    from stable_baselines3.common.callbacks import BaseCallback

    from ddpg_robot.learn.trainer import EVALUATION_SEED

    class Evaluations(BaseCallback):
        evaluated = 0

        def _on_training_start(self) -> None:
            self.start = time.monotonic()

        def _on_step(self) -> bool:
            step, every = self.num_timesteps, config.eval_every
            if step % config.log_every == 0:
                metrics.write({"kind": "train", **self.times()})
            if self.locals["dones"][0] and step // every > self.evaluated // every:
                self.evaluated = step
                self.evaluate(config.eval_episodes)
            return True

        def evaluate(self, episodes: int) -> dict[str, Any]:
            result = evaluate_task(self.act, test_task, episodes, EVALUATION_SEED + config.seed)
            numbers = {key: value for key, value in result.items() if key != "per_episode"}
            metrics.write({"kind": "evaluation", **self.times(), **numbers})
            return result

        def act(self, observation: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                return self.model.actor(torch.as_tensor(observation)[None])[0].numpy()

        def times(self) -> dict[str, float]:
            elapsed = time.monotonic() - self.start
            step = self.num_timesteps
            return {"step": step, "time_s": round(elapsed, 3), "steps_per_s": round(step / max(elapsed, 1e-9), 1)}

    return Evaluations()


def _versions() -> dict[str, str]:
    names = ("torch", "numpy", "gymnasium", "stable_baselines3")
    found = {"ddpg_robot": __version__, "python": platform.python_version()}
    return found | {name: version(name) for name in names}


def main(text: str) -> None:
    """Trains the peer that a JSON object describes; one line and exit code 2 on an error that a user can mend."""
    data = json.loads(text)
    try:
        train_peer(PeerConfig(**{**data, "out": Path(data["out"])}))
    except DdpgRobotError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main(sys.argv[1])
