"""What every test has at hand."""

import signal

pytest_plugins = ("tests.requirements_plugin",)

# A script's background job starts with SIGINT ignored, and what is ignored stays so in every program that is started:
# the tests that press Ctrl-C would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
