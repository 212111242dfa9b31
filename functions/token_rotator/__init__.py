"""The one place that refreshes the access tokens of a Wise Platform partner's users, and hands them out."""
