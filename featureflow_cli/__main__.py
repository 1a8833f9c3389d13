"""`python -m featureflow_cli` is `featureflow`."""

from featureflow_cli.cli.main import main

main()
