"""What a job has read and sent, and where the values of its calls come from: facts for policies, and for people."""
