/*
 * migrate -- brings a database to the schema of this program: parleyctl migrate.
 *
 * The files of a folder are applied in their order.  Those whose names begin with a digit (001-core.sql)
 * come first: tables, each applied once; one that was changed after it was applied is
 * an error.  Those named by a word (turns.sql) hold functions, and what else can be applied over
 * itself: they are applied again whenever their content is another.
 *
 * All of it is one transaction under an advisory lock, and is recorded in parley.migrations with the
 * SHA-256 of each file: running it again, or from two machines at once, is safe, workers that
 * run meanwhile never see a part of it, and where one file fails none was applied.
 *
 * The files make five roles.  Where none can be made, the first migration is told so (single), and one stands for
 * all (single.h); the ledger has an entry for it, and later ones go the same way by themselves.
 * What the SHA-256 is of is the file, either way.
 *
 * citus.sql, which is for those who want it, is passed over.
 *
 * For command-line programs: it blocks.
 */
#ifndef PARLEY_CHAT_MIGRATE_H
#define PARLEY_CHAT_MIGRATE_H

#include <stdbool.h>
#include <stdio.h>

#include <libpq-fe.h>

struct buf;

/* One line for each file applied, and for what went wrong.  -1: something did. */
int	 migrate_run(const char *url, const char *dir, bool single, FILE *out);

/* The names of the files that a database lacks, or has as they were before; how many files there are, or -1. */
int	 migrate_missing(PGconn *, const char *dir, struct buf *names, FILE *out);

#endif
