"""Programs that test too long for the suite: kills, hours of training, many processes."""
