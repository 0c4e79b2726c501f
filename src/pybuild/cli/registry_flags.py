"""Flags that more than one command has: registries and logging."""

from __future__ import annotations

from pybuild.cli.flags import Flag

REGISTRIES, LOG = "Registries", "Logging"

REGISTRY = (
    Flag("insecure", "bool", "Push by plain HTTP where HTTPS does not answer.", REGISTRIES),
    Flag("insecure-pull", "bool", "Pull by plain HTTP where HTTPS does not answer.", REGISTRIES),
    Flag("insecure-registry", "list", "A registry that may be spoken to by plain HTTP.", REGISTRIES, value="HOST"),
    Flag("skip-tls-verify", "bool", "Do not verify certificates.", REGISTRIES),
    Flag("skip-tls-verify-pull", "bool", "Do not verify certificates of registries that are pulled from.", REGISTRIES),
    Flag("skip-tls-verify-registry", "list", "A registry whose certificate is not verified.", REGISTRIES, value="HOST"),
    Flag("registry-certificate", "pairs", "Certificate authorities for a registry.", REGISTRIES, value="HOST=FILE"),
    Flag(
        "registry-client-cert", "pairs", "Client certificate and key for a registry.", REGISTRIES, value="HOST=CERT,KEY"
    ),
    Flag(
        "registry-map",
        "map",
        "Where to pull the images of a registry from instead.",
        REGISTRIES,
        value="HOST=HOST[/PATH];…",
        variable="KANIKO_REGISTRY_MAP",
    ),
    Flag(
        "registry-mirror",
        "list",
        "Where to pull the images of Docker Hub from instead.",
        REGISTRIES,
        value="HOST[/PATH]",
        variable="KANIKO_REGISTRY_MIRROR",
    ),
    Flag("skip-default-registry-fallback", "bool", "Fail when no mirror has an image.", REGISTRIES),
    Flag("image-download-retry", "int", "How often to try again to get a manifest.", REGISTRIES, "0", value="N"),
    Flag("push-retry", "int", "How often to try again to push.", REGISTRIES, "0", value="N"),
    Flag(
        "push-ignore-immutable-tag-errors",
        "bool",
        "A tag that exists and must not change counts as pushed.",
        REGISTRIES,
    ),
    Flag(
        "skip-push-permission-check",
        "bool",
        "Do not ask before the build whether the destinations can be pushed to.",
        REGISTRIES,
    ),
    Flag(
        "credential-helpers",
        "list",
        "Credential helpers to ask.",
        REGISTRIES,
        value="NAME",
        origin="kaniko fork",
        status="accepted",
        note="those that the Docker configuration names are asked",
    ),
)

LOGGING = (
    Flag(
        "verbosity", "text", "trace, debug, info, warn, error, fatal or panic.", LOG, "info", short="v", value="LEVEL"
    ),
    Flag("log-format", "text", "text, color or json.", LOG, "color", value="FORMAT"),
    Flag("log-timestamp", "bool", "Put the time into each line.", LOG),
)
