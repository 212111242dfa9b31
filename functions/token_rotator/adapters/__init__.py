"""The ports over real things: DynamoDB, KMS, Wise, SNS, Secrets Manager, Lambda. One module per outside thing."""
