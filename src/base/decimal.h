/*
 * decimal -- whole numbers as text, without printf().
 *
 * A plain turn writes some sixty of them, into log lines, parameters of statements and JSON; by
 * printf() that was every fourteenth of its instructions.
 */
#ifndef PARLEY_BASE_DECIMAL_H
#define PARLEY_BASE_DECIMAL_H

#include <stddef.h>
#include <stdint.h>

#define DECIMAL_SIZE	sizeof "-9223372036854775808"

size_t	 decimal_write(char out[DECIMAL_SIZE], int64_t);	/* its length, without the NUL at the end */

#endif
