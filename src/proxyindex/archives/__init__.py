"""Archives: what wheels and sdists say of themselves, and whether they are whole and unambiguous.

Pure: an open file in, values out.
"""
