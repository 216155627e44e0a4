"""What does: ingress, lanes, stages, engines, storage, callback, supervisor."""
