/*
 * migrate -- brings a database to the schema of this program: parleyctl migrate.
 *
 * The files of a folder are applied in their order: 001-….sql, 002-….sql, then those without a number by name.
 * Each is one transaction under an advisory lock, and is recorded in
 * parley.migrations with its SHA-256: running it again, or from two machines at once, is safe.  A
 * file that was changed after it was applied is an error, never applied again.
 *
 * For command-line programs: it blocks.
 */
#ifndef PARLEY_CHAT_MIGRATE_H
#define PARLEY_CHAT_MIGRATE_H

#include <stdio.h>

/* One line for each file applied, and for what went wrong.  -1: something did. */
int	 migrate_run(const char *url, const char *dir, FILE *out);

#endif
