"""System identification: fits a task's robot to what a real one did."""
