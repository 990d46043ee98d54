"""A process of a pool: takes payloads from its pipe, runs one function on each, and answers.

    python -m hybrid_ai.serving.child FILE_DESCRIPTOR MODULE:FUNCTION MEGABYTES

It imports little but that function, has no descriptor of the service's but the pipe, and ends with the service.
"""

import importlib
import resource
import sys
from multiprocessing.connection import Connection

from hybrid_ai.serving import memory

OK, REFUSED, NO_MEMORY, FAILED = range(4)


def main(descriptor: int, target: str, megabytes: int) -> None:
    module, _, name = target.partition(":")
    function = getattr(importlib.import_module(module), name)
    # The limit counts address space, of which the libraries alone have some.
    resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
    pipe = Connection(descriptor)
    pipe.send(OK)
    while True:
        try:
            payload = pipe.recv()
        except EOFError:
            return
        try:
            answer = OK, function(*payload)
        except MemoryError:
            answer = NO_MEMORY, ""
        except ValueError as error:
            answer = REFUSED, str(error)
        except Exception as error:
            answer = FAILED, type(error).__name__
        pipe.send(answer)
        del payload, answer
        memory.give_back()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
