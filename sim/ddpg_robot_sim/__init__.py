"""SIM: MuJoCo tasks as Gymnasium environments."""
