"""What draws. Everything in here but `messages` runs inside the engine process; only it imports torch."""
