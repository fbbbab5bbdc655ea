"""Makes faust's credentials of librdkafka's options in the settings: TLS, user and password. Guesses nothing."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Final

from faust import SASLCredentials, SSLCredentials
from faust.types.auth import CredentialsT

from placet.schemas.errors import SettingsError

__all__ = ["credentials"]

_USED: Final = frozenset({
    "security.protocol", "sasl.mechanism", "sasl.mechanisms", "sasl.username", "sasl.password", "ssl.ca.location",
    "ssl.certificate.location", "ssl.key.location", "ssl.key.password",
})  # fmt: skip
_PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


def credentials(options: Mapping[str, str]) -> CredentialsT | None:
    """Return faust's credentials; None without any.

    Args:
        options: librdkafka's, as the settings have them; only those about security are used.

    Raises:
        SettingsError: an option about security can't be passed on to faust. No such option is ignored.
    """
    unknown = sorted(name for name in options if name.startswith(("ssl.", "sasl.", "security.")) and name not in _USED)
    if unknown:
        raise SettingsError(f"the advisor's Kafka client can't be told {', '.join(unknown)}; it takes {sorted(_USED)}")
    protocol = _one_of("security.protocol", options.get("security.protocol", "PLAINTEXT"), _PROTOCOLS)
    context = _context(options) if protocol.endswith("SSL") else None
    if protocol.startswith("SASL"):
        told = options.get("sasl.mechanism") or options.get("sasl.mechanisms") or ""
        return SASLCredentials(
            username=options.get("sasl.username"),
            password=options.get("sasl.password"),
            mechanism=_one_of("sasl.mechanism", told, _MECHANISMS),
            ssl_context=context,
        )
    return None if context is None else SSLCredentials(context)


def _one_of(name: str, told: str, known: tuple[str, ...]) -> str:
    found = told.upper()
    if found not in known:
        raise SettingsError(f"the advisor's Kafka client knows no {name} `{told}`: {', '.join(known)}")
    return found


def _context(options: Mapping[str, str]) -> ssl.SSLContext:
    certificate = options.get("ssl.certificate.location")
    try:
        context = ssl.create_default_context(cafile=options.get("ssl.ca.location"))
        if certificate:
            context.load_cert_chain(certificate, options.get("ssl.key.location"), options.get("ssl.key.password"))
    except OSError as error:
        raise SettingsError(f"TLS files can't be read: {error}") from error
    return context
