"""What ``vsrbench.demo`` is made of: steps that call the other commands, and the material they work on."""
