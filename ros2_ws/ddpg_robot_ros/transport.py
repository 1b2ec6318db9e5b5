"""The thin layer over rclpy that a control loop needs: newest message, event wait, signals, a background executor.

An rclpy executor builds a wait set and dispatches Python callbacks for every message: at 1 kHz that is most of a core.
Here the loop's own thread takes the newest message straight from the subscription when it wants one; executors never
see these subscriptions and only serve services, parameters and diagnostics.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import rclpy
from rclpy.callback_groups import CallbackGroup
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions

from ddpg_robot.errors import DdpgRobotError
from ddpg_robot_ros.middleware import avoid_shared_memory
from ddpg_robot_ros.realtime import ask_for_short_slices

if TYPE_CHECKING:
    from typing_extensions import Self  # in `typing` from Python 3.11 on

EFFORT_TOPIC = "effort_controller/commands"
GUARDED_TOPIC = "policy/commands"
"""What the guard takes; it answers on `EFFORT_TOPIC`."""
SHADOW_TOPIC = "~/shadow_effort"
"""What a policy in shadow would command; no controller listens there."""
STATE_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
COMMAND_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
# Effort is published reliably, as ros2_controllers want it. Our own readers ask for best effort: the next command comes
# in milliseconds, and a reliable reader's acknowledgements would wake the publisher at every tick.
EFFORT_READER_QOS = STATE_QOS

# How long a thread that wants the interpreter waits for the thread that has it. Python's 5 ms would be several ticks.
SWITCH_INTERVAL_S = 2e-4
STOP_WAIT_S = 5.0


class LoopOwnedGroup(CallbackGroup):
    """A callback group that no executor ever runs: its subscriptions belong to a loop."""

    def can_execute(self, entity: Any) -> bool:
        """No executor may touch the entity."""
        return False

    def beginning_execution(self, entity: Any) -> bool:
        """No executor may touch the entity."""
        return False

    def ending_execution(self, entity: Any) -> None:
        """Never reached."""


class Newest:
    """A subscription whose newest message is taken when the loop asks for it.

    Args:
        node: owner.
        message_type: what is on the topic.
        topic: name, relative to the node's namespace.
        qos: quality of service.
        raw: `take` gives serialized bytes, which costs a quarter of a message.

    Attributes:
        info: ``source_timestamp`` and ``received_timestamp`` (ns, system clock) and what else the middleware tells of
            the last message taken.
    """

    def __init__(self, node: Node, message_type: type, topic: str, qos: QoSProfile, raw: bool = False) -> None:
        self._node = node
        self._type = message_type
        self._raw = raw
        self._subscription = node.create_subscription(
            message_type, topic, lambda message: None, qos, callback_group=LoopOwnedGroup()
        )
        self.handle = self._subscription.handle
        self._take = self.handle.take_message
        self.info: dict[str, Any] = {}

    def take(self) -> Any | None:
        """The newest message that was not taken yet, or None. Never blocks."""
        taken = self._take(self._type, self._raw)
        if taken is None:
            return None
        self.info = taken[1]
        return taken[0]

    @property
    def topic(self) -> str:
        """Resolved name, after namespace and remapping."""
        return str(self._subscription.topic_name)

    @property
    def publishers(self) -> int:
        """Publishers on the topic at present."""
        return int(self._node.count_publishers(self.topic))  # Humble's subscription cannot say how many it has matched

    def destroy(self) -> None:
        """Ends the subscription; no other thread may be taking from it."""
        self._node.destroy_subscription(self._subscription)


class MessageWait:
    """Sleeps until one subscription has a message, or a timeout; no executor, no callback."""

    def __init__(self, node: Node, newest: Newest) -> None:
        self._handle = newest.handle
        self._wait_set = rclpy_implementation.WaitSet(1, 0, 0, 0, 0, 0, node.context.handle)

    def wait(self, timeout: float) -> bool:
        """True when a message is there, False when `timeout` s have passed."""
        wait_set = self._wait_set
        wait_set.clear_entities()
        wait_set.add_subscription(self._handle)
        wait_set.wait(max(0, int(timeout * 1e9)))
        return bool(wait_set.is_ready("subscription", 0))


class StopSignal:
    """SIGINT and SIGTERM set a flag; the process then ends in its own order (damping, zero, farewell).

    rclpy's own handlers would close the middleware at once, with torque still commanded. Waiting is done on a pipe: a handler
    runs in the thread that waits, and would wait for ever for the lock of a `threading.Event` that this very thread holds.
    """

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._is_set = False
        self.received: int | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: object) -> None:
        self.received = number
        self.set()

    def set(self) -> None:
        """Asks for the end from inside the program (any thread)."""
        self._is_set = True
        with suppress(BlockingIOError):  # a full pipe wakes as well
            os.write(self._writer, b"!")

    def is_set(self) -> bool:
        """True once the process shall end."""
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        """Sleeps until the process shall end, or `timeout` s."""
        return self._is_set or bool(select.select([self._reader], [], [], timeout)[0])


class BackgroundExecutor:
    """Serves a node's services, parameters, timers and lifecycle in a thread of its own."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)
        self._ending = False
        self._thread = threading.Thread(target=self._spin, name="executor", daemon=True)

    def submit(self, task: Callable[[], None]) -> None:
        """Runs `task` once, in the executor's thread."""
        self._executor.create_task(task)

    def start(self) -> None:
        """Begins serving."""
        self._thread.start()

    def stop(self) -> None:
        """Finishes the callback in progress and ends the thread."""
        if self._ending:
            return
        self._ending = True
        self._executor.wake()
        if self._thread.is_alive():
            self._thread.join(timeout=STOP_WAIT_S)
        self._executor.shutdown(timeout_sec=0.0)  # only now: it destroys what a spinning thread waits on

    def _spin(self) -> None:
        while not self._ending:
            self._serve_one()

    def _serve_one(self) -> None:
        try:
            self._executor.spin_once(timeout_sec=0.5)
        except ExternalShutdownException:
            self._ending = True
        except Exception as error:  # a refused lifecycle transition raises here; serving must go on
            if not self._ending:
                self._node.get_logger().error(f"request refused: {error}")


class Bystander:
    """A node beside a deployment, in a context of its own, with a thread that serves it; a context manager.

    Args:
        name: of the node.
        namespace: ROS namespace of the deployment.
        domain: ROS domain; None for the environment's.

    Attributes:
        node: the node.
    """

    def __init__(self, name: str, namespace: str = "", domain: int | None = None) -> None:
        avoid_shared_memory()
        self._context = Context()
        rclpy.init(args=[], context=self._context, domain_id=domain)
        self.node = Node(name, context=self._context, namespace=namespace.strip("/"), use_global_arguments=False)
        self._executor = BackgroundExecutor(self.node)

    def __enter__(self) -> Self:
        self._executor.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._executor.stop()
        self.node.destroy_node()
        self._context.try_shutdown()


@contextmanager
def steady_memory() -> Iterator[None]:
    """Keeps the garbage collector out of ticks: what exists is frozen, and a loop collects when it has time to."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def start_ros(args: Sequence[str] | None) -> StopSignal:
    """Starts rclpy without its signal handlers and returns ours.

    Args:
        args: command line with ``--ros-args``; None for the process's own.
    """
    avoid_shared_memory()
    ask_for_short_slices()  # before the middleware starts its threads
    rclpy.init(args=list(sys.argv if args is None else args), signal_handler_options=SignalHandlerOptions.NO)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    return StopSignal()


@contextmanager
def serving(node: Node) -> Iterator[BackgroundExecutor]:
    """Serves the node in the background; at the end says goodbye, so that nobody waits for a lease to run out."""
    executor = BackgroundExecutor(node)
    executor.start()
    try:
        yield executor
    finally:
        executor.stop()
        node.destroy_node()
        rclpy.try_shutdown()


def run_node(make_node: Callable[[], Any], args: Sequence[str] | None) -> int:
    """Makes a node and lets its ``run(stop)`` have this thread until SIGINT or SIGTERM. Returns the exit status."""
    stop = start_ros(args)
    try:
        node = make_node()
    except DdpgRobotError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with serving(node), steady_memory():
        node.run(stop)
    return 0
