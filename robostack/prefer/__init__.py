"""Which of several tries from one state was better: by rewards, by outcomes, by people."""
