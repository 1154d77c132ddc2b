"""What a run reports while it trains: on the screen, in files and to other programs."""
