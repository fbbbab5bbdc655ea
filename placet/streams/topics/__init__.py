"""Which topics an app needs, and the steps from what the cluster has to that."""
