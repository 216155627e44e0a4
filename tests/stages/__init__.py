"""What each stage promises, on fakes of the ports and the real state machine."""
