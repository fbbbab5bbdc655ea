"""Looks at a cluster and says what a gate would stumble over: `placet doctor`."""
