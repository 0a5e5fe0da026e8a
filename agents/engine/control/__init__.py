"""What people do to a job under way or ended: pause, resume, retry, fork, edit a step that has not begun."""
