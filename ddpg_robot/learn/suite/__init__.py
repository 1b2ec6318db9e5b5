"""`benchmark learn`: trains on several tasks and seeds, collects the curves, draws them beside published figures."""
