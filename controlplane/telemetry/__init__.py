"""What instances and agents say, in their own formats, to reports.

Pure: text and bytes in, values out.
"""
