"""The whole story on the emulators: deployed with `cdk deploy`, refreshing, serving and alerting. `make demo`."""
