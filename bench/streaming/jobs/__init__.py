"""What is run as a process of its own: the floor, and the peers, each in the environment that has its packages."""
