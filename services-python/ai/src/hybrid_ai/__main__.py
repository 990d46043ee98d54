"""Starts the service: python -m hybrid_ai. It stops cleanly on SIGTERM and SIGINT."""

import asyncio
import gc
import os
import signal
import sys

from hybrid_ai import config, telemetry, tracing

# How long a thread may hold the interpreter while others wait for it: the default, 5 ms, keeps models waiting.
_SWITCH_SECONDS = 0.001
# Objects more than were freed, before those are looked for that only refer to each other. Calls leave none behind; what
# waits in a full queue is some 50,000, and to look through these takes 10 ms, for which the event loop stands still.
_COLLECT_AFTER = 50_000


async def _serve(settings: config.Config) -> None:
    from hybrid_ai.server import Service

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    service = Service(settings)
    await service.start()
    _spare_what_stays()
    if settings.supervisor >= 0:
        os.write(settings.supervisor, b"r")  # ready; what comes back is only ever the end of the supervisor
        loop.add_reader(settings.supervisor, stop.set)
    await stop.wait()
    if settings.supervisor >= 0:
        loop.remove_reader(settings.supervisor)
    await service.stop()


def _spare_what_stays() -> None:
    """Leaves out of garbage collection what lives as long as the process: to look through it takes tens of ms."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 10, 10)


def main() -> int:
    try:
        settings = config.load()
    except config.ConfigError as error:
        print(f"configuration: {error}", file=sys.stderr)
        return 2
    telemetry.configure_logging(settings.log_format, settings.log_level)
    if settings.processes > 1:
        from hybrid_ai.supervisor import Supervisor  # it serves nothing itself, and loads no engine

        return Supervisor(settings).run()
    from hybrid_ai import event_loop

    sys.setswitchinterval(_SWITCH_SECONDS)
    tracing.configure(settings.otlp_endpoint)
    event_loop.run(_serve(settings))
    tracing.shut_down()
    return 0


if __name__ == "__main__":
    sys.exit(main())
