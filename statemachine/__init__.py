"""What remembers: states, events, decisions and the event store.

Nothing in here knows of prompts, pictures, GPUs, Redis or HTTP.
"""
