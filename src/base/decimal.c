#include "base/decimal.h"

#include <string.h>

size_t
decimal_write(char out[DECIMAL_SIZE], int64_t n)
{
	char		 digits[DECIMAL_SIZE], *at = digits + sizeof digits;
	uint64_t	 rest = n < 0 ? -(uint64_t)n : (uint64_t)n;
	size_t		 size;

	/* From the last one to the first. */
	*--at = '\0';
	do
		*--at = (char)('0' + rest % 10);
	while ((rest /= 10) > 0);
	if (n < 0)
		*--at = '-';
	size = (size_t)(digits + sizeof digits - at);
	memcpy(out, at, size);
	return size - 1;
}
