"""What a peer says that can't be measured on this machine."""


class PeerMissing(Exception):
    """Something that the peer needs is not there: which part is not measured, and what to install."""
