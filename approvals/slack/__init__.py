"""The Slack app: messages with buttons, what presses of them do, and whose account is whose."""
