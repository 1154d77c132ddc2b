"""Speed and memory, each measured beside a peer in one run; see README.md."""
