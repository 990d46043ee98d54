"""Calls the gateway with grpcio: python main.py <url> <descriptor set> <token>.

One line of JSON for each case, with what went wrong; the exit code says whether anything did.
"""

import asyncio
import sys

import asynchronous
import blocking
import report

if __name__ == "__main__":
    blocking.run()
    asyncio.run(asynchronous.run())
    sys.exit(report.failed > 0)
