"""What every test has at hand."""

pytest_plugins = ("tests.requirements_plugin",)
