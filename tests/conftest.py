"""What every test has at hand."""

import os
import signal

pytest_plugins = ("tests.requirements_plugin",)

# A script's background job starts with SIGINT ignored, and what is ignored stays so in every program that is started:
# the tests that press Ctrl-C would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No test reaches the internet: whoever wants a hub starts one of its own and names it by HF_ENDPOINT.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop("HF_ENDPOINT", None)
