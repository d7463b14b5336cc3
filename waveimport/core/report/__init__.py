"""What a report draws: the history of a job turned into positions, buckets and groups, without a page in mind.

Horizontal positions are per cent of the width, so that one page fits a desk, a phone and paper.
"""
