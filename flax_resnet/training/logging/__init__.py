"""What a run tells people while it trains: on the screen, in files and to other programs."""
