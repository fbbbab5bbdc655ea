"""The gate's peers: how fast do others do the same job, on the same broker, in the same minutes?"""
