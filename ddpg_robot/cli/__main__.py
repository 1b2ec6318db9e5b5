"""`python -m ddpg_robot.cli` is `ddpg-robot`."""

from ddpg_robot.cli import main

main()
