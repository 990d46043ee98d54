"""Starts the service: python -m hybrid_ai. It stops cleanly on SIGTERM and SIGINT."""

import asyncio
import signal
import sys

import uvloop

from hybrid_ai import config, telemetry, tracing
from hybrid_ai.server import Service


async def _serve(settings: config.Config) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    service = Service(settings)
    await service.start()
    await stop.wait()
    await service.stop()


def main() -> int:
    try:
        settings = config.load()
    except config.ConfigError as error:
        print(f"configuration: {error}", file=sys.stderr)
        return 2
    telemetry.configure_logging(settings.log_format, settings.log_level)
    tracing.configure(settings.otlp_endpoint)
    uvloop.run(_serve(settings))
    tracing.shut_down()
    return 0


if __name__ == "__main__":
    sys.exit(main())
