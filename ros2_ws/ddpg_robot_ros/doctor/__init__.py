"""Checks of a live robot against a policy, before torque is enabled.

``findings``, ``joints``, ``imu``, ``topics``, ``urdf``, ``machine`` and ``pulses`` judge what was collected and know no
middleware; ``listen`` collects, ``excite`` moves the robot, ``run`` puts it together.
"""
