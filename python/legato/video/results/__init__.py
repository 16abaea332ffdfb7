"""What came of it: reports, comparisons, the page to look at them, and measures of any tool's results."""
