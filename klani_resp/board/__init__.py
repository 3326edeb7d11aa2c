"""The live board: one page that shows a sale as it happens, and the stream of events that feeds it."""
