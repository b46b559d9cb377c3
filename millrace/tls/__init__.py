"""Who a process is to others: its certificate, the key to it, and the CA that both sides believe.

files        the three files, read and checked
identity     the same while a process runs: a renewed file is read without a restart
watch        a certificate that is about to expire is shown
authority    a CA, and what it issues
keep         the certificates of one stack: made once, renewed in time
"""
