"""What jobs and people want to be remembered: proposed, admitted, found again, forgotten."""
