"""archiver: old verdicts into the archive, expired ones away, what has ended and forgotten payloads swept, late mail told.

Consumes   -                    nothing: it works by the clock
Publishes  -                    nothing
Touches    Postgres, message store (list, delete)
Decides    which payload nobody needs any more: no mail names it, and the records have been complete since it was written;
           whether the clock is to be believed: in doubt nothing is deleted
If killed  nothing happens twice or by half: every step is one statement; several archivers may run
Standards  none
"""
