"""What the server shows of itself: INFO, statistics, the slow log, MONITOR."""
