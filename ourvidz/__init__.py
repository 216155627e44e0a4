"""What faces people: settings, command line, wiring."""
