"""A machine by seed: processes, threads, clocks and disks of a simulation, under which the gate's own code runs."""
