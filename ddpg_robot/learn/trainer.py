"""The training loop: explore, store, learn, evaluate, checkpoint."""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ddpg_robot.errors import TrainingError, mismatch
from ddpg_robot.learn.agents import Agent, make_agent
from ddpg_robot.learn.checkpoint import CheckpointStore, load_policy, save_batch, save_best
from ddpg_robot.learn.config import TrainConfig, annealed
from ddpg_robot.learn.ddpg import Losses
from ddpg_robot.learn.evaluate import Act, evaluate_task
from ddpg_robot.learn.interruption import Interruption
from ddpg_robot.learn.progress import Metrics, ProgressLine
from ddpg_robot.learn.replay import Replay
from ddpg_robot.learn.rollout import Rollout, is_taught
from ddpg_robot.learn.rundir import RunDirectory, locked, write_json, writing
from ddpg_robot.learn.tasks import Task, open_task
from ddpg_robot.learn.watch import Watch

EVALUATION_SEED = 1_000_000
"""Evaluations of a run use this seed plus the run's own: the same episodes each time, never those of training."""


def train(config: TrainConfig) -> Path:
    """Trains an agent, or resumes an interrupted training, and returns the run directory.

    A resumed run equals the uninterrupted one bit for bit (same machine, versions and threads): every episode is reset
    with a seed of its own, checkpoints are taken between episodes, and what came after the last one is run again.

    Raises:
        ConfigError: unknown task, algorithm, preset or setting, a task without Box spaces, or one too large for a grid.
        RunDirectoryError: the directory exists and `resume` is off, or another training runs in it.
        CheckpointError: other settings on resume, a damaged checkpoint, or a full disk.
        TrainingError: an observation, reward or loss is not finite.
        SystemExit: 130 after SIGINT or SIGTERM, once the state is saved.
    """
    config.agent_settings()  # raises before a task is made
    torch.set_num_threads(config.threads)
    with contextlib.ExitStack() as stack:
        # Weights that decay towards zero end in numbers that are 200 times slower to multiply.
        for kind in (np.float32, np.float64):
            np.finfo(kind)  # numpy looks at denormals once; before 2.3 it warns where they are flushed
        torch.set_flush_denormal(True)
        stack.callback(torch.set_flush_denormal, False)
        task, *others = (
            stack.enter_context(open_task(config.task, config.task_kwargs)) for _ in range(config.envs + 1)
        )
        agent_config = config.agent_settings(task.agent_settings)
        gc.freeze()  # collections need not look through all that torch brought along, again and again
        stack.callback(gc.unfreeze)
        agent = make_agent(config.algorithm, task.observation_size, task.action_size, agent_config, config.seed)
        run = RunDirectory.prepare(config, task.describe())
        stack.enter_context(locked(run.path))
        if not run.evaluation_file.is_file():  # its last file
            Training(config, run, others, task, agent).run()
    return run.path


class Training:
    """The state of one run and its loop.

    Args:
        config: the run's settings.
        run: its directory.
        tasks: the environments to learn in.
        test_task: the one to evaluate in.
        agent: what learns.
    """

    def __init__(
        self, config: TrainConfig, run: RunDirectory, tasks: list[Task], test_task: Task, agent: Agent
    ) -> None:
        self.config = config
        self.run_directory = run
        self.test_task = test_task
        self.store = CheckpointStore(run.checkpoints)
        self.agent = agent
        agent_config = agent.config
        sizes = (test_task.observation_size, test_task.action_size, agent_config.batch_size)
        self.replay = Replay(agent_config.replay_capacity, *sizes, is_taught(agent_config, test_task))
        names = ["replay", *(f"{name} {i}" for i in range(len(tasks)) for name in ("noise", "warmup"))]
        streams = np.random.SeedSequence(config.seed).spawn(len(names))
        self.rngs = {name: np.random.default_rng(stream) for name, stream in zip(names, streams, strict=True)}
        self.rollouts = [
            Rollout(task, agent_config, self.rngs[f"noise {i}"], self.rngs[f"warmup {i}"])
            for i, task in enumerate(tasks)
        ]
        self.watch = Watch(agent_config.gamma)
        self.step = 0
        self.episode = 0
        self.evaluated_step = 0
        self.best_score: list[float] | None = None
        self.elapsed_s = 0.0
        self.metrics_rows = 0
        self.recent: deque[dict[str, Any]] = deque(maxlen=20)
        self.losses: list[Losses] = []
        if self.store.latest() is not None:
            self._restore()
        self._saved_step = self.step

    def run(self) -> None:
        """Runs to the end, or until a signal; then raises SystemExit(130)."""
        config = self.config
        name = config.task.rpartition("/")[2]
        with (
            Interruption() as self.stop,
            ProgressLine(name, config.steps, self.step) as self.line,
            Metrics(self.run_directory, self.step, self.metrics_rows) as self.metrics,
        ):
            self._started = self._saved_at = time.monotonic()
            while self.step < config.steps and not self.stop.requested:
                if self._evaluation_due():
                    self._evaluate()
                elif self._checkpoint_due():
                    self._save()
                else:
                    self._run_episodes()
            if not self.stop.overdue:
                self._save()
            if self.stop.requested:
                self.line.note(f"stopped at step {self.step:,}; resume goes on from the last checkpoint")
                raise SystemExit(130)
            self._finish()
            if not config.keep_replay:
                self.store.delete_replay()

    def _run_episodes(self) -> None:
        """One episode in each environment, a step of each in turn, with learning after every step."""
        self.agent.begin_round()
        running = self.rollouts
        progress = self.step / self.config.steps
        for number, rollout in enumerate(running, self.episode):
            self.agent.normalizer.observe(rollout.reset(self.config.seed, number, progress))
        while running and self.step < self.config.steps:
            if self.stop.overdue:
                return
            running = [rollout for rollout in running if self.step < self.config.steps and not self._step(rollout)]
            if self.step % 10 < len(self.rollouts):
                self.line.update(self.step, *self._recent_means())
        self.episode += len(self.rollouts)

    def _step(self, rollout: Rollout) -> bool:
        """One step in one environment, and what is learnt after it; returns whether its episode is over."""
        over = rollout.step(self._explore(rollout), self.replay)
        self.agent.normalizer.observe(rollout.observation)
        self.watch.reward(rollout.rewards[-1])
        if over:
            self.agent.observe_episode(rollout.rewards)
        self.step += 1
        self._learn()
        if self.step % self.config.log_every == 0:
            self._log()
        if over:
            self._warn(self.watch.episode(len(rollout.rewards)))
            success = rollout.info.get("is_success")
            success = None if success is None else float(success)
            self.recent.append({"return": sum(rollout.rewards), "success": success})
        return over

    def _explore(self, rollout: Rollout) -> np.ndarray:
        """The action to take: the teacher's with noise or a random one during the warm-up, then the agent's; (actions,)."""
        config = self.agent.config
        taught = rollout.teach()
        if self.step < config.warmup_steps and taught is None:
            return rollout.warmup.sample()
        noise = rollout.noise.sample(
            annealed(config.noise_sigma, config.noise_sigma_final, self.step / self.config.steps)
        )
        if self.step < config.warmup_steps:
            return np.clip(taught + noise, -1.0, 1.0)
        return self.agent.explore(rollout.observation, noise)

    def _learn(self) -> None:
        config = self.agent.config
        if self.step <= config.warmup_steps or len(self.replay) < config.batch_size:
            return
        self.agent.set_progress(self.step / self.config.steps)
        recency = annealed(1.0, config.replay_recency, self.step / self.config.steps)
        rate = config.updates_per_step
        for _ in range(int(self.step * rate) - int((self.step - 1) * rate)):
            batch = self.replay.newest() if self.agent.online else self.replay.sample(self.rngs["replay"], recency)
            losses = self.agent.update(batch)
            if not math.isfinite(losses.critic) or not math.isfinite(losses.actor or 0.0):
                save_batch(self.run_directory.bad_batch_file, batch)
                hint = f"Their batch is in {self.run_directory.bad_batch_file}, the last checkpoint is intact. "
                hint += "Try a smaller learning rate, or value_scale=10 where rewards are large"
                raise TrainingError(mismatch(f"losses at step {self.step}", losses, "finite numbers", hint=hint))
            self.losses.append(losses)

    def _log(self) -> None:
        mean_return, success = self._recent_means()
        row: dict[str, Any] = {"kind": "train", "step": self.step, **self._times()}
        row |= {"episodes": self.episode, "return": mean_return, "success": success}
        if self.losses:
            actor = [x.actor for x in self.losses if x.actor is not None]
            row["critic_loss"] = float(np.mean([x.critic for x in self.losses]))
            row["actor_loss"] = float(np.mean(actor)) if actor else None
            row["q_mean"] = float(np.mean([x.q_mean for x in self.losses]))
            row["actor_slope"] = self.agent.actor_slope()
            self._warn(self.watch.values(row["q_mean"]))
            self._warn(self.watch.slope(row["actor_slope"]))
            self.losses.clear()
        self.metrics.write(row)

    def _warn(self, text: str | None) -> None:
        if text is not None:
            self.line.note(text)
            self.metrics.write({"kind": "warning", "step": self.step, "text": text})

    def _checkpoint_due(self) -> bool:
        overdue = time.monotonic() - self._saved_at >= self.config.checkpoint_every_s
        return overdue and self.step > self._saved_step

    def _evaluation_due(self) -> bool:
        every = self.config.eval_every
        return self.step // every > self.evaluated_step // every

    def _evaluate(self) -> None:
        """Evaluates the actor on an environment of its own and keeps it where it is the best so far."""
        result = self._run_evaluation(self.config.eval_episodes, self.agent.act)
        if result is None:
            return
        self.evaluated_step = self.step
        self._write_evaluation(result)
        if self.best_score is None or score(result, self.test_task.judged_by) > self.best_score:
            self._keep_as_best(result)

    def _run_evaluation(self, episodes: int, act: Act) -> dict[str, Any] | None:
        """An evaluation on the run's own episodes, the same each time; None where a signal comes during it."""

        def stop_on_signal(_done: int, _all: int) -> None:
            if self.stop.requested:
                raise _EvaluationStoppedError

        try:
            return evaluate_task(act, self.test_task, episodes, EVALUATION_SEED + self.config.seed, stop_on_signal)
        except _EvaluationStoppedError:
            return None

    def _write_evaluation(self, result: dict[str, Any]) -> None:
        numbers = {key: value for key, value in result.items() if key != "per_episode"}
        self.metrics.write({"kind": "evaluation", "step": self.step, **self._times(), **numbers})
        success = f", success {100 * result['success_rate']:.0f} %" if result["success_rate"] is not None else ""
        self.line.note(f"evaluation at step {self.step:,}: return {result['return_mean']:.2f}{success}")

    def _keep_as_best(self, result: dict[str, Any]) -> None:
        self.best_score = score(result, self.test_task.judged_by)
        numbers = {key: value for key, value in result.items() if key != "per_episode"}
        save_best(self.run_directory, self.agent.policy_state(), {"step": self.step, "evaluation": numbers})

    def _finish(self) -> None:
        """Compares the last actor with the best so far over more episodes; keeps the last one unless it is clearly worse."""
        episodes = self.config.final_eval_episodes
        last = self._run_evaluation(episodes, self.agent.act)
        best = None
        if self.run_directory.best_file.is_file():
            loaded = load_policy(self.run_directory.path, "best")
            best = self._run_evaluation(episodes, loaded.act)
        if self.stop.requested or last is None:
            raise SystemExit(130)
        self._write_evaluation(last)
        step = self.step
        if best is None or not _clearly_better(best, last, self.test_task.judged_by):
            self._keep_as_best(last)
            best = last
        else:
            step = loaded.steps
        with writing(self.run_directory.evaluation_file):
            write_json(self.run_directory.evaluation_file, {"which": "best", "step": step, **best})

    def _save(self) -> None:
        state = {
            "step": self.step,
            "episode": self.episode,
            "evaluated_step": self.evaluated_step,
            "best_score": self.best_score,
            "elapsed_s": self._elapsed(),
            "metrics_rows": self.metrics.rows,
            "recent": list(self.recent),
            "losses": [list(losses) for losses in self.losses],
            "watch": self.watch.state(),
            "rngs": {name: rng.bit_generator.state for name, rng in self.rngs.items()},
        }
        self.store.save(self.step, self.agent.state(), state, self.replay)
        self._saved_step, self._saved_at = self.step, time.monotonic()

    def _restore(self) -> None:
        tensors, state = self.store.load(self.replay)
        self.agent.load_state(tensors)
        self.step, self.episode = state["step"], state["episode"]
        self.evaluated_step, self.best_score = state["evaluated_step"], state["best_score"]
        self.elapsed_s, self.metrics_rows = state["elapsed_s"], state["metrics_rows"]
        self.recent.extend(state["recent"])
        self.losses = [Losses(*values) for values in state["losses"]]
        self.watch.load_state(state["watch"])
        for name, rng in self.rngs.items():
            rng.bit_generator.state = state["rngs"][name]

    def _recent_means(self) -> tuple[float | None, float | None]:
        """Mean return and success rate of the last training episodes."""
        if not self.recent:
            return None, None
        successes = [row["success"] for row in self.recent]
        success = None if None in successes else float(np.mean(successes))
        return float(np.mean([row["return"] for row in self.recent])), success

    def _elapsed(self) -> float:
        """Seconds of training, interruptions left out."""
        return self.elapsed_s + time.monotonic() - self._started

    def _times(self) -> dict[str, float]:
        elapsed = self._elapsed()
        return {"time_s": round(elapsed, 3), "steps_per_s": round(self.step / max(elapsed, 1e-9), 1)}


class _EvaluationStoppedError(Exception):
    """A signal came during an evaluation."""


def score(result: dict[str, Any], judged_by: tuple[str, ...]) -> list[float]:
    """The figures by which actors are compared, the first one first; one that the task does not tell counts as zero."""
    return [result[name] or 0.0 for name in judged_by]


def _clearly_better(best: dict[str, Any], last: dict[str, Any], judged_by: tuple[str, ...]) -> bool:
    """Whether `best` beats the last actor in what the task goes by: a rate, or the return by more than the error of its mean.

    The step size is smallest at the end of a training, so the last actor is usually the most precise one, while the best
    of many evaluations of few episodes owes something to luck.
    """
    for name in judged_by:
        if name != "return_mean" and best[name] != last[name]:
            return bool((best[name] or 0.0) > (last[name] or 0.0))
    return bool(best["return_mean"] > last["return_mean"] + last["return_std"] / last["episodes"] ** 0.5)
