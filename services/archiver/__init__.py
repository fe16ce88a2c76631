"""archiver: old verdicts into the archive, expired ones away, forgotten payloads swept, overdue mail told.

Consumes   -                    nothing: it works by the clock
Publishes  -                    nothing
Touches    Postgres, message store (list, delete)
Decides    which payload nobody needs any more: no mail names it, and the records have been complete since it was written
If killed  nothing happens twice or by half: every step is one statement; several archivers may run
Standards  none
"""
