"""Who calls: verifies the short-lived identity that the gateway signs for this service alone.

The token is a JWT (HS256, iss hybrid-gateway, aud ai) in the metadata key x-hybrid-identity; nothing else is trusted.
"""

import time
from dataclasses import dataclass
from typing import Literal

import jwt

from hybrid_ai.errors import Unauthenticated

METADATA_KEY = "x-hybrid-identity"
ISSUER = "hybrid-gateway"
AUDIENCE = "ai"
LEEWAY_SECONDS = 5
EVERYBODY = "*"
_CACHE_SIZE = 4096

Kind = Literal["user", "service", "anonymous"]


@dataclass(frozen=True)
class Identity:
    """A verified caller. `subject` is for example "alice", "service:realtime" or "anonymous"."""

    subject: str
    kind: Kind
    scopes: frozenset[str]
    expires: float
    actor: str | None = None


class Verifier:
    """Verifies identities and remembers each token until it expires, since a caller's calls share one."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._known: dict[str, Identity] = {}

    def verify(self, token: str | None) -> Identity:
        """Raises Unauthenticated for a missing, forged, expired or otherwise wrong token."""
        if not token:
            raise Unauthenticated("no identity was sent")
        known = self._known.get(token)
        if known is not None and time.time() < known.expires + LEEWAY_SECONDS:
            return known
        identity = self._decode(token)
        if len(self._known) >= _CACHE_SIZE:
            self._known.clear()
        self._known[token] = identity
        return identity

    def _decode(self, token: str) -> Identity:
        try:
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=["HS256"],
                audience=AUDIENCE,
                issuer=ISSUER,
                leeway=LEEWAY_SECONDS,
                options={"require": ["iss", "aud", "sub", "exp", "iat"]},
            )
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("the identity has expired") from None
        except jwt.InvalidTokenError:
            raise Unauthenticated("the identity is not valid") from None
        subject, kind, scope, actor = (claims.get(name) for name in ("sub", "kind", "scope", "act"))
        if kind not in ("user", "service", "anonymous") or not isinstance(subject, str) or not subject:
            raise Unauthenticated("the identity is not valid")
        scopes = frozenset(scope.split()) if isinstance(scope, str) else frozenset[str]()
        return Identity(subject, kind, scopes, float(claims["exp"]), actor if isinstance(actor, str) else None)
